# make demo   a Label Studio and the backend on this machine, with sample pictures pre-filled
# make check  format, lint, types and the quick unit tests: nothing real is started
# make test   everything CI runs: make check with slow tests, a real Label Studio, a real browser and a real Ray
# make soak   make test with many random kills and examples and long loops, and the benchmarks' own runs
# make image  builds the Docker image and runs it as the compose files say; needs a Docker engine
# Needs Python 3.11 with pip; scripts/bootstrap installs the rest into .tools/, .venv/ and .label-studio/.
# ARGS is handed on: make demo ARGS=--check, make test ARGS='-k connect'

# Where bytecode may not be kept, each of the many processes would compile torch, transformers and the tests again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test soak image coverage audit clean

setup:
	scripts/bootstrap test

demo:
	scripts/bootstrap demo
	.venv/bin/prelabel demo $(ARGS)

check:
	scripts/bootstrap env
	scripts/check
	scripts/test check $(ARGS)

test:
	scripts/bootstrap test
	scripts/check
	scripts/test all $(ARGS)

soak:
	scripts/bootstrap test
	scripts/check
	scripts/test soak $(ARGS)

image:
	scripts/bootstrap env
	.venv/bin/python -m scripts.image

# Branch coverage of what make test runs, child processes included.
coverage:
	scripts/bootstrap test
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -m "not gpu and not soak" -n logical --no-loadscope-reorder $(ARGS)
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report --skip-covered

# Asks an advisory service about every pinned package; needs a network, so it is not part of `make test`.
audit:
	scripts/bootstrap env
	.venv/bin/python scripts/audit.py --online

clean:
	rm -rf .tools .venv .label-studio build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
