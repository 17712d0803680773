# Every command the project knows. The first use of any of them makes the environment in .venv.
#   make demo     train and report on the embedded digits
#   make test     all tests that take seconds   make test-slow    those that take minutes
#   make lint     ruff, mypy                      make bench        figures of benchmarks/README.md
#   make docs     the documentation as a site
# On Linux without a GPU, name the index of PyTorch's CPU builds: make demo TORCH_INDEX=URL (see README).

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

.PHONY: demo test test-slow lint bench docs clean

demo: $(READY)
	$(BIN)/isthmus study digits --out $(DEMO) --overwrite
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
	$(BIN)/python benchmarks/train_lab.py
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/map_solvers.py
	$(BIN)/python benchmarks/study_full.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/study_signs.py
	$(BIN)/python benchmarks/outliers.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/folders.py
	$(BIN)/python benchmarks/memory_map.py

docs: $(READY)
	$(BIN)/python -m pip install --quiet -e ".[docs]" -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site: file://$(CURDIR)/site/index.html"

clean:
	rm -rf $(VENV) $(DEMO) site

# torch first: the pinned version keeps anything else from choosing another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Isthmus needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints.txt
	touch $(READY)
