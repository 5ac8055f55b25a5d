# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.evit-base
STAMP := $(VENV)/.evit-ready
SOURCE ?=
OUT ?= evit-out

.PHONY: setup demo test test-slow images lint bench clean

setup: $(STAMP)

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# What a board gets: no torch, no converters.
$(BASE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $(BASE)

$(STAMP): $(BASE)
	$(PIP) --editable '.[torch,export,openvino,dev]'
	touch $(STAMP)

# SOURCE=ANYTHING that `evit segment` reads; without it a clip is drawn.
demo: $(BASE)
	$(BIN)/python -m benchmarks.demo --out '$(OUT)' --source '$(SOURCE)'

test: setup lint
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

# The rest: whole data sets, exports of every model, 100,000 frames, wheels in fresh environments.
test-slow: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

# Executes every RUN line of both Dockerfiles; needs root, buildah and mmdebstrap.
images: setup
	EVIT_TEST_IMAGES=1 $(BIN)/python -m pytest -n0 tests/packaging/test_images.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.frame_cost
	$(BIN)/python -m benchmarks.model_forms
	$(BIN)/python -m benchmarks.train_speed
	$(BIN)/python -m benchmarks.export_speed
	$(BIN)/python -m benchmarks.attention_speed

clean:
	rm -rf $(VENV) evit-out dist
