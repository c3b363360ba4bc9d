# make demo: set up .venv and run the demo robot for 20 seconds, nothing plugged in
# make test: set up .venv and run the tests and static checks
PYTHON ?= python3
BIN := .venv/bin
NATIVE := $(wildcard native/*.h native/*.py native/CMakeLists.txt native/src/*)

.PHONY: demo test lint sanitize bench clean

demo: .venv/installed
	$(BIN)/inphase run schedules/demo.toml --seconds 20

test: .venv/installed lint native-test
	$(BIN)/python -m pytest

.venv/installed: pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

clean:
	rm -rf .venv build dist
