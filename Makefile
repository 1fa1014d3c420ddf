# make demo   a sample image and a page that shows it
# make test   the tests, in TESTERS processes side by side, the viewer's behind them
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
TESTERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LIBRARY := gputiles/viewer/openseadragon.min.js
BUILT_FROM := pyproject.toml $(wildcard kernels/*)
comma := ,
# One stamp for each set of extras: what another set has brought is not enough.
INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: demo viewer test test-gpu sanitize-gpu bench-gpu bench bench-quick bench-baseline fuzz lint types wheel-check docker-check smoke
.PHONY: readme-picture screenshots install install-extras clean

demo: $(VENV)/.installed
	@! command -v npm >/dev/null || $(MAKE) --no-print-directory viewer || echo 'OpenSeadragon is not here.'
	$(BIN)/gputiles demo --size $(SIZE) --port $(PORT) $(ARGS)

viewer: $(LIBRARY)

# Installed, never copied into the repository: the lock file says which, and its digest.
$(LIBRARY): package.json package-lock.json
	npm ci --no-audit --no-fund --silent
	cp node_modules/openseadragon/build/openseadragon/openseadragon.min.js $@

# A file's tests stay in one process: they share servers, and what they have measured. Those that drive a
# browser come by themselves: two browsers beside each other are too slow. ARGS are pytest's, in one process.
test: $(INSTALLED)
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --ignore tests/viewer
	$(BIN)/python -m pytest tests/viewer
else
	$(BIN)/python -m pytest $(ARGS)
endif

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz $(ARGS)

test-gpu: $(INSTALLED)
	GPUTILES_NEEDS_CARD=1 $(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

# A short run under each tool: memory errors, races in shared memory, barriers. What a call of the runtime
# answers is Python's to see: that one was refused (as where a card is probed) is not an error of a kernel.
SANITIZE := GPUTILES_NEEDS_CARD=1 compute-sanitizer --error-exitcode 9
SHORT := $(BIN)/python -m pytest -m gpu tests/gpu -k short
sanitize-gpu: $(INSTALLED)
	$(SANITIZE) --tool memcheck --report-api-errors no $(SHORT) $(ARGS)
	$(SANITIZE) --tool racecheck $(SHORT) $(ARGS)
	$(SANITIZE) --tool synccheck $(SHORT) $(ARGS)

bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(INSTALLED)
	$(BIN)/python -m benchmarks --quick $(ARGS)

# On a machine that does nothing else, with the change that made something slower on purpose.
bench-baseline: $(INSTALLED)
	$(BIN)/python -m benchmarks --quick --baseline $(ARGS)

docker-check: $(INSTALLED)
	$(BIN)/python .ci/dockerfile_check.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

wheel-check: $(INSTALLED)
	$(BIN)/python .ci/wheel_check.py

smoke: $(INSTALLED)
	$(BIN)/python .ci/smoke.py

readme-picture: $(VENV)/.installed
	$(BIN)/python docs/picture.py

screenshots: $(INSTALLED) viewer
	$(BIN)/python docs/screenshots.py

install: $(VENV)/.installed

install-extras: $(INSTALLED)

# The host kernels are built by the install; a change of any kernel file builds them anew.
$(VENV)/.installed: $(BUILT_FROM) | $(BIN)/python
	@echo "installing gputiles into $(VENV) ..."
	rm -f gputiles/_host*.so
	$(PIP) --editable .
	@touch $@

$(INSTALLED): $(BUILT_FROM) | $(BIN)/python
	@echo "installing gputiles and what its tests need into $(VENV) ..."
	rm -f gputiles/_host*.so
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("gputiles needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(LIBRARY) node_modules build dist *.egg-info gputiles/_host*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
