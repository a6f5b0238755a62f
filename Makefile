# make demo    train, export and query a small tagger, in a few minutes
# make test    all tests
# make web     a page on which exported models answer in the browser, served at PORT
# All first make a virtual environment in .venv with the pinned requirements.
# Tests and page have more of them: a server, for where there is no Docker, and ONNX.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
WEB := serving/web
PORT ?= 8000

.PHONY: demo test web

demo: .venv/ready
	rm -rf $(DEMO)
	$(BIN)/python recipes/pos_tagging.py --dataset sample \
	    --output $(DEMO) --saved-models $(DEMO)/saved_models
	@echo "Asking the exported SavedModel, from a process that knows only TensorFlow:"
	@$(BIN)/python serving/query.py $(DEMO)/saved_models/pos_tagging \
	    "I saw a saw." "You can can a can."

# A process for each core, of one thread, and one for when others wait.
test: export TF_NUM_INTEROP_THREADS = 1
test: export TF_NUM_INTRAOP_THREADS = 1
# What is freed is kept for the next tensors: else a tenth of training goes to mapping memory.
test: export MALLOC_TOP_PAD_ = 67108864
test: export MALLOC_TRIM_THRESHOLD_ = 1073741824
test: .venv/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses=$$(($$(getconf _NPROCESSORS_ONLN) + 1)) \
	    --dist=loadfile --no-loadscope-reorder --durations=15

web: .venv/ready-to-test $(WEB)/node_modules/.package-lock.json
	$(BIN)/python $(WEB)/build.py
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(WEB)/dist

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	@command -v npm > /dev/null || { echo "npm is needed, and is not here: install Node.js 20" \
	    "or newer (https://nodejs.org), which brings it."; exit 1; }
	cd $(WEB) && npm ci --omit=dev --ignore-scripts --no-audit --no-fund
	touch $@

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
