# make demo   the main job of every domain on generated data; opens with index.html
# make test   lint, types, tests; make test-spark those that need Java
# Both create .venv first, with uv where it is installed, else with venv and pip. Nothing but Python 3.11+ is needed.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow test-spark smoke figures peers format clean

demo: $(READY)
	$(BIN)/tacit demo --out demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu and not spark"

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow"

test-spark: $(READY)  # installs the extra `spark`; needs Java 17 or newer
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,spark]'; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,spark]'; \
	fi
	$(BIN)/python -m pytest -m "spark" tests/finance tests/recsys

smoke: $(READY)  # every domain on real data, about a minute each; needs TACIT_DATA
	@test -d "$(TACIT_DATA)" || { echo "smoke: TACIT_DATA names no folder ('$(TACIT_DATA)')" >&2; exit 2; }
	for domain in healthcare finance speech recsys; do \
		$(BIN)/tacit-$$domain bench --only smoke --out bench/smoke/$$domain || exit 1; done

figures: $(READY)  # rewrite the README's table from docs/results
	$(BIN)/python -m core.figures $(FROM)

peers: $(READY)  # what core.benchmark is measured beside and is no dependency, over the project's own torch: .peers/NAME
	for name in kornia ptls rectools recbole speechbrain; do \
		rm -rf .peers/$$name; \
		if command -v uv >/dev/null 2>&1; then \
			uv pip install --quiet --python $(BIN)/python --target .peers/$$name --no-deps -r core/peers/$$name.txt; \
		else \
			$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .peers/$$name --no-deps -r core/peers/$$name.txt; \
		fi || exit 1; \
	done

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .peers demo bench

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed and was not found" >&2; exit 2; }
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" .venv && \
		uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
		"$(PYTHON)" -m venv .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $(READY)
