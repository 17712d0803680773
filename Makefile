# Every command the project knows. The first use of any of them makes the environment in .venv.
#   make demo     train and report on the embedded digits
#   make test     all tests that take seconds   make test-slow    those that take minutes
#   make lint     ruff, mypy                      make bench        figures of benchmarks/README.md, beside those of others
#   make bench-fast   four of them, in under 8 minutes
#   make docs     the documentation as a site     make explorer     the explorer's page; needs Node.js
# On Linux without a GPU, name the index of PyTorch's CPU builds: make demo TORCH_INDEX=URL (see README).

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo
STATIC := src/isthmus/explorer/static
PAGE := $(STATIC)/index.html
PAGE_SOURCES := $(wildcard explorer/*.json explorer/*.html explorer/*.ts) $(shell find explorer/src -type f)

.PHONY: demo test test-slow lint bench bench-fast docs explorer clean

# Without Node.js, or without its packages, there is a report all the same.
demo: $(READY)
	@if command -v npm >/dev/null; then $(MAKE) explorer || echo "The explorer is left out: its page could not be built."; fi
	$(BIN)/isthmus study digits --out $(DEMO) --overwrite
	@if [ -f $(PAGE) ]; then $(BIN)/isthmus explore $(DEMO)/runs/vae16 --single-file $(DEMO)/explorer.html; \
	else echo "No explorer without Node.js: see README."; fi
	@echo "The report: file://$(CURDIR)/$(DEMO)/report.html"

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/suite.py

bench-fast: $(READY)
	$(BIN)/python benchmarks/suite.py --fast

docs: $(READY)
	$(BIN)/python -m pip install --quiet -e ".[docs]" -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site: file://$(CURDIR)/site/index.html"

explorer: $(PAGE)

$(PAGE): $(PAGE_SOURCES)
	@command -v npm >/dev/null || { echo "The explorer's page needs Node.js 20.19 or later, and npm."; exit 2; }
	cd explorer && npm ci --no-audit --no-fund && npm run build
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(STATIC) explorer/node_modules site

# torch first: the pinned version keeps anything else from choosing another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Isthmus needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints.txt
	touch $(READY)
