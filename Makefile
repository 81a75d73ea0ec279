# make demo   a Label Studio and the backend on this machine, with sample pictures pre-filled
# make test   everything CI runs; make check: the same without the end-to-end tests
# Needs Python 3.11 with pip; scripts/bootstrap installs the rest into .tools/, .venv/ and .label-studio/.
# ARGS is handed on: make demo ARGS=--check, make test ARGS='-k connect'
.PHONY: setup demo check test audit clean

setup:
	scripts/bootstrap test

demo:
	scripts/bootstrap demo
	.venv/bin/prelabel demo $(ARGS)

check:
	scripts/bootstrap env
	scripts/check
	.venv/bin/pytest -m "not end_to_end and not gpu" $(ARGS)

test:
	scripts/bootstrap test
	scripts/check
	.venv/bin/pytest -m "not gpu" $(ARGS)

# Asks an advisory service about every pinned package; needs a network, so it is not part of `make test`.
audit:
	scripts/bootstrap env
	.venv/bin/python scripts/audit.py --online

clean:
	rm -rf .tools .venv .label-studio build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
