# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.evit-ready
SOURCE ?=
OUT ?= evit-out

.PHONY: setup demo test lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[torch,export,openvino,dev]'
	touch $(STAMP)

# SOURCE=ANYTHING that `evit segment` reads; without it a clip is drawn.
demo: setup
	$(BIN)/python -m benchmarks.demo --out '$(OUT)' --source '$(SOURCE)'

test: setup lint
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.frame_cost
	$(BIN)/python -m benchmarks.model_forms
	$(BIN)/python -m benchmarks.train_speed

clean:
	rm -rf $(VENV) evit-out dist
