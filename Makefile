# Five verbs, each of which works as the first command after cloning: up, demo, test, check, bench.
#
# A stamp in .make/ remembers which lock file was installed, so a second run starts at once and a
# changed one is picked up. ARGS reaches the command: make up ARGS="--name Ada".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help up demo test check bench ready lock clean root

PY := .venv/bin/python
ARGS ?=

# command=package, so that only what is missing is installed
LAB := ip=iproute2 nft=nftables
PEERS := $(LAB) conntrack=conntrack ping=iputils-ping wireguard-go=wireguard-go \
	wg=wireguard-tools iperf3=iperf3 miniupnpd=miniupnpd-nftables
BROWSER := chromium=chromium

# What sudo makes in somebody's folder is theirs, or their own next `make check` could not write.
OURS := trap '[ "$${SUDO_UID-}" != "$$(stat -c %u .)" ] || \
	find . -user root -exec chown -h "$$SUDO_UID:$$SUDO_GID" {} +' EXIT;

# In make's own child, so that a signal to make ends it; then there is no giving back afterwards.
RUN := [ -z "$${SUDO_UID-}" ] || export PYTHONDONTWRITEBYTECODE=1; exec

help:
	@echo 'make up      this computer joins in: node, dashboard, control (root)'
	@echo 'make demo    four players behind three home routers and a relay, on this computer alone (root)'
	@echo 'make test    every test; as root also those with real packets'
	@echo 'make check   format, lint, types, import contracts, documents'
	@echo 'make bench   side by side with other tunnels (root)'
	@echo 'make ready   install everything into this folder, and run nothing'
	@echo 'make lock    choose the newest versions allowed and pin them'
	@echo 'make clean   remove everything that make made'

up: root ready
	@$(RUN) .venv/bin/lanrage up $(ARGS)

demo: root ready
	@.ci/need $(LAB)
	@$(RUN) .venv/bin/lanrage demo $(ARGS)

test: ready
ifeq ($(shell id -u),0)
	@.ci/need $(PEERS) $(BROWSER)
endif
	@$(OURS) $(PY) -m pytest --leaks $(ARGS)

check: .make/installed
	@echo '==> format and lint'
	@$(OURS) $(PY) -m ruff format --check --quiet . && $(PY) -m ruff check --quiet .
	@echo '==> types'
	@$(OURS) $(PY) -m mypy
	@echo '==> import contracts'
	@.venv/bin/lint-imports --no-cache
	@echo '==> documents and house style'
	@$(OURS) $(PY) -m pytest tests/test_docs.py tests/test_tidy.py

bench: root .make/installed
	@.ci/need $(PEERS) turnserver=coturn
	@$(OURS) $(PY) -m bench $(ARGS)

root:
	@test "$$(id -u)" -eq 0 || { \
	  echo 'Needs root, to create a network interface. Run: sudo make $(MAKECMDGOALS)' >&2; exit 1; }

.make/installed: requirements.lock pyproject.toml .ci/install
	@$(OURS) .ci/install >&2

# Looks at a digest of the sources first, so this is no work when nothing changed.
ready: .make/installed
	@$(OURS) $(PY) -m web.build >&2

lock: .make/installed
	@$(PY) -m pip --disable-pip-version-check install --quiet uv
	@{ echo '# Every package that running, testing and checking need, pinned by hash. Made by `make lock`.'; \
	  .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --group dev pyproject.toml; } > .make/lock
	@mv .make/lock requirements.lock

clean:
	rm -rf .make .venv build dist web/ui/dist web/ui/node_modules bench/results \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
