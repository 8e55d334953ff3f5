PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all coverage zoo lint docs figures wheel benchmark chaos fuzz mutants clean

demo: $(STAMP)  ## run the quickstart search on the embedded benchmark
	$(BIN)/nasplatform run searches/quickstart.yaml --out runs/demo --force

test: $(STAMP)  ## run the tests on all cores; what is skipped says why
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -rfEs -m "not slow"

test-all: $(STAMP)  ## run all of them, those of more than ten seconds too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -rfEs

coverage: $(STAMP)  ## run the quick tests, and report which lines they reach
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest --numprocesses auto --dist worksteal -m "not slow"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

zoo: $(STAMP)  ## send every kind of network through every stage and write docs/zoo.md
	rm -f runs/zoo.jsonl
	OMP_NUM_THREADS=1 $(BIN)/python tests/zoo/zoo_table.py --out docs/zoo.md

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## build the documentation into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

figures: $(STAMP)  ## make the figures of docs/ that fit in an hour anew; say what else there is
	OMP_NUM_THREADS=1 $(BIN)/python analysis/figures.py

wheel: $(STAMP)  ## build sdist and wheel; run the quickstart from the wheel in an empty environment
	PYTHON=$(BIN)/python .ci/wheel

benchmark: $(STAMP)  ## measure speed
	$(BIN)/python -m pytest --benchmark-only --override-ini addopts=-q tests

mutants: $(STAMP)  ## make small wrong changes to a copy of the source and see tests fall; resumable
	OMP_NUM_THREADS=1 $(BIN)/python analysis/mutants.py --out docs/mutants.md

fuzz: $(STAMP)  ## damage every kind of file, other ones each time; FUZZ_EXAMPLES of each
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000} OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto tests/fuzz

chaos: $(STAMP)  ## kill workers, databases and nodes for some minutes; nothing may be lost
	CHAOS=10 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rfEs -m "postgres or ray" tests/search tests/executors

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	$(BIN)/nasplatform plugins > /dev/null  # what there is, kept in the cache: to import all takes seconds
	touch $@

clean:  ## remove the environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
