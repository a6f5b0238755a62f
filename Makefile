# make demo    train, export and query a small tagger, in a few minutes
# make test    all tests
# Both first make a virtual environment in .venv with the pinned requirements.
# The tests have more of them: a server, for where there is no Docker.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test

demo: .venv/ready
	rm -rf $(DEMO)
	$(BIN)/python recipes/pos_tagging.py --dataset sample \
	    --output $(DEMO) --saved-models $(DEMO)/saved_models
	@echo "Asking the exported SavedModel, from a process that knows only TensorFlow:"
	@$(BIN)/python serving/query.py $(DEMO)/saved_models/pos_tagging \
	    "I saw a saw." "You can can a can."

# A process for each core, of one thread: more would only get into each other's way.
test: export TF_NUM_INTEROP_THREADS = 1
test: export TF_NUM_INTRAOP_THREADS = 1
test: .venv/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses=logical --dist=loadfile --no-loadscope-reorder

.venv/ready-to-test: serving/requirements.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	    sys.exit(None if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, and " \
	    "$(PYTHON) is %d.%d. Say which to use: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
