# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test web chromium clean

demo: .venv/ready web
	$(BIN)/restain demo --out demo

test: .venv/ready web chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

# The pages of `restain serve`. All else works without them, so a machine without Node.js goes on and is told.
STATIC := src/restain/web/static
PAGES := $(shell find frontend -type f -not -path '*/node_modules/*' 2>/dev/null)
NODE_FITS := node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'

web:
	@if command -v npm > /dev/null && $(NODE_FITS); then $(MAKE) --no-print-directory $(STATIC)/index.html; \
	else echo "Node.js 20.19 or later is missing: the pages of 'restain serve' are not built, all else works."; fi

$(STATIC)/index.html: $(PAGES)
	cd frontend && npm ci --no-fund --no-audit --loglevel=error && npm run --silent build
	touch $@

# The browser of tests/browser: installed where that takes no password, else those tests are skipped and say so.
chromium:
	@command -v chromium chromium-browser google-chrome > /dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && apt-get update -qq && apt-get install -qq -y chromium; } \
	|| echo "Chromium is missing (Debian: apt-get install chromium): the browser tests are skipped."

# Made once; again only when what it is made from changes.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt "torch>=2.11"
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv demo frontend/node_modules $(STATIC)
