"""`evit sam --ui`: a local page that finds objects by clicks and boxes."""

from evit_cli.inference.sam_page.page import SamPage, open_page

__all__ = ["SamPage", "open_page"]
