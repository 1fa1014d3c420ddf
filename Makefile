# make demo   a sample image and a page that shows it
# make test   the tests
# make viewer gets the viewer's library, with npm; make demo does so where there is npm
# make bench, bench-quick   the benchmarks, in full and in a minute (EXTRAS=test,bench); bench-baseline renews
#   what bench-quick compares with
# make test-gpu, sanitize-gpu, bench-gpu   on a machine with a CUDA card (EXTRAS=test,cuda13)
# Everything is installed into .venv; PYTHON names the interpreter to make it with.

PYTHON ?= python3
VENV ?= .venv
SIZE ?= 8192
PORT ?= 8080
EXTRAS ?= test
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LIBRARY := gputiles/viewer/openseadragon.min.js
BUILT_FROM := pyproject.toml $(wildcard kernels/*)

.PHONY: demo viewer test test-gpu sanitize-gpu bench-gpu bench bench-quick bench-baseline fuzz lint types wheel-check docker-check smoke
.PHONY: readme-picture screenshots install clean

demo: $(VENV)/.installed
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory viewer || echo 'OpenSeadragon is not here.'
	$(BIN)/gputiles demo --size $(SIZE) --port $(PORT) $(ARGS)

viewer: $(LIBRARY)

# Installed, never copied into the repository: the lock file says which, and its digest.
$(LIBRARY): package.json package-lock.json
	npm ci --no-audit --no-fund --silent
	cp node_modules/openseadragon/build/openseadragon/openseadragon.min.js $@

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz $(ARGS)

test-gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

# A short run under each tool: memory errors, then races in shared memory.
sanitize-gpu: $(VENV)/.installed-test
	compute-sanitizer --tool memcheck --error-exitcode 9 $(BIN)/python -m pytest -m gpu tests/gpu -k short $(ARGS)
	compute-sanitizer --tool racecheck --error-exitcode 9 $(BIN)/python -m pytest -m gpu tests/gpu -k short $(ARGS)

bench-gpu: $(VENV)/.installed-test
	$(BIN)/python benchmarks/gpu.py $(ARGS)

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks --quick $(ARGS)

# On a machine that does nothing else, with the change that made something slower on purpose.
bench-baseline: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks --quick --baseline $(ARGS)

docker-check: $(VENV)/.installed-test
	$(BIN)/python .ci/dockerfile_check.py

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

screenshots: $(VENV)/.installed-test viewer
	$(BIN)/python docs/screenshots.py

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
	rm -rf $(VENV) $(LIBRARY) node_modules build dist *.egg-info gputiles/_host*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
