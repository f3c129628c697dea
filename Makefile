# Every target is a word of make.py, which also runs where there is no make: python make.py book
PYTHON ?= python3

.PHONY: help book serve zip lab check test fuzz refresh bench bench-quick firefox sphinx fresh freeze clean slides handout pdf publish
help book serve zip lab check test fuzz refresh bench bench-quick firefox sphinx fresh freeze clean slides handout pdf:
	@$(PYTHON) make.py $@
.DEFAULT_GOAL := help

TO ?=
publish:
	@$(PYTHON) make.py publish --to "$(TO)"
