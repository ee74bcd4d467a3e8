# Every target sets itself up first (.venv, packages, Azurite); the second call finds that done.
PYTHON ?= $(shell for p in python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
PY := .venv/bin/python

.PHONY: help setup run test serve bench lint secrets fix
help:                      ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile

setup:                     ## build .venv: packages and Azurite
	@[ -n "$(PYTHON)" ] || { echo "Python 3.13 or newer is needed and none was found: install python3.13 and run make again, or name one with make PYTHON=/path/to/python3.13." >&2; exit 2; }
	@$(PYTHON) local/bootstrap.py

run: setup                 ## rotate the DEKs of 200 tenants and then their KEK on the local stack, under load, and check every promise
	@$(PY) -m local --die-with-parent run $(ARGS)

serve: setup               ## start the local stack and leave it up until Ctrl-C
	@$(PY) -m local --die-with-parent serve $(ARGS)

test: setup                ## all tests: pure, crash matrix, contracts, end to end
	@$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: setup               ## benchmarks, as ratios against floors measured in the same run
	@$(PY) -m bench $(ARGS)

lint: setup                ## format, lint, types
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

secrets: setup             ## look for secrets in all files and all commits
	@$(PY) -m shared.redact.scan $(ARGS)

fix: setup                 ## repair format and lint where a machine can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
