"""Elements of a page. The standard library writes them, so that every string is escaped."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

Child = Element | str


def node(tag: str, *children: Child, **attributes: object) -> Element:
    """An element.

    Args:
        tag: its name.
        children: elements and texts, in order.
        attributes: `class_` becomes class, `data_row` data-row; None leaves an attribute out.
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), str(value))
    extend(element, *children)
    return element


def extend(parent: Element, *children: Child) -> None:
    """Put elements and texts at the end of an element."""
    for child in children:
        if not isinstance(child, str):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + child
        else:
            parent.text = (parent.text or "") + child


def write(element: Element) -> str:
    """HTML of an element and all that is in it."""
    return tostring(element, encoding="unicode", method="html")


__all__ = ["Child", "Element", "extend", "node", "write"]
