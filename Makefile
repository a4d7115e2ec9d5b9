# Set-up, the quickstart of the README, and what every change must pass. PYTHON: 3.11 or newer.
PYTHON ?= python3
BIN = .venv/bin
STUDIES ?= linear_regression colourization_small

.PHONY: quickstart test test-long lint benchmark clean

quickstart: .venv/installed
	for study in $(STUDIES); do \
	    $(BIN)/batch-scaling sweep -m study=$$study && \
	    $(BIN)/batch-scaling report study=$$study || exit; \
	done

test: .venv/installed
	$(BIN)/python -m pytest -m "not long" -n auto --dist loadfile --durations=40

test-long: .venv/installed
	$(BIN)/python -m pytest -m long -n auto --dist loadfile --durations=30

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

benchmark: .venv/installed
	$(BIN)/python -m tests.benchmarks.linear_regression

# torch first and within a tested range: nothing after it changes the build then chosen
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch>=2.4,<=2.13.0"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv
