# make demo   a sample image and a page that shows it
# make test   the tests
# Everything is installed into .venv; PYTHON names the interpreter to make it with.

PYTHON ?= python3
VENV ?= .venv
SIZE ?= 8192
PORT ?= 8080
EXTRAS ?= test
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
BUILT_FROM := pyproject.toml $(wildcard kernels/*)

.PHONY: demo test lint types wheel-check smoke readme-picture install clean

demo: $(VENV)/.installed
	$(BIN)/gputiles demo --size $(SIZE) --port $(PORT) $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

wheel-check: $(VENV)/.installed-test
	$(BIN)/python .ci/wheel_check.py

smoke: $(VENV)/.installed-test
	$(BIN)/python .ci/smoke.py

readme-picture: $(VENV)/.installed
	$(BIN)/python docs/picture.py

install: $(VENV)/.installed

# The host kernels are built by the install; a change of any kernel file builds them anew.
$(VENV)/.installed: $(BUILT_FROM) | $(BIN)/python
	@echo "installing gputiles into $(VENV) ..."
	rm -f gputiles/_host*.so
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(BUILT_FROM) | $(BIN)/python
	@echo "installing gputiles and what its tests need into $(VENV) ..."
	rm -f gputiles/_host*.so
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("gputiles needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info gputiles/_host*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
