# tallyd: `make run` shows it at work, `make test` proves it. Everything is made below this folder,
# in .venv/ and .cache/; nothing on the system is changed (except by `make install`).

PYTHON ?= python3
BIN := .venv/bin
PREFIX ?= /usr/local

.PHONY: help run test nodes sim crash load fuzz bench lint proto install clean venv venv-test

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*##/  make \1 \t/p' Makefile | expand -t 22

run: venv  ## real nodes, the daemon, an invoice of each kind paid; ONCE=1 ends by itself
	@$(BIN)/python -m tests.nodes.install btc ltc
	@$(BIN)/python -m tests.nodes.install xmr || echo "going on without Monero"
	@$(BIN)/python -m tests.nodes.install evm || echo "going on without Ethereum and BNB Smart Chain"
	@$(BIN)/python -m tests.demo

test: venv-test  ## every test, on real nodes and a real PostgreSQL
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint nodes
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(PYTEST)

nodes:
	@$(BIN)/python -m tests.nodes.install btc ltc xmr postgres evm grpc-js solc ton chromium fonts axe

lint: venv-test  ## style, types, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m proto.generate --check

sim: venv-test  ## simulated faults until stopped; SEED= plays one again, HISTORIES= so many
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED)) \
		$(if $(HISTORIES),--histories $(HISTORIES)) $(if $(WRITE),--write)

crash: venv-test  ## kill -9 while payments flow; KILLS=300 DATABASE=sqlite|postgres|both SEED= JOBS=2
	@$(BIN)/python -m tests.nodes.install btc ltc evm postgres
	@$(BIN)/python -m tests.crash $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(DATABASE),--database $(DATABASE)) $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write)

load: venv-test  ## as 200 merchants, for an hour; RATE=100 MINUTES=60 MERCHANTS=200 DATABASE=postgres
	@$(BIN)/python -m tests.nodes.install btc $(filter postgres,$(DATABASE))
	@$(BIN)/python -m tests.load $(if $(RATE),--rate $(RATE)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(MERCHANTS),--merchants $(MERCHANTS)) $(if $(DATABASE),--database $(DATABASE)) \
		$(if $(WRITE),--write)

fuzz: venv-test  ## damaged input without end; TARGET=… SECONDS=… SEED=… CASE=… INPUT=…
	@$(BIN)/python -m tests.fuzz --target="$(TARGET)" --seconds="$(SECONDS)" --seed="$(SEED)" \
		--case="$(CASE)" --input="$(INPUT)"

bench: venv-test  ## the figures of docs/performance.md, as a table and JSON
	@$(BIN)/python -m tests.nodes.install btc postgres
	@$(BIN)/python -m benchmarks

proto: venv-test  ## regenerate the code beside the .proto files
	$(BIN)/python -m proto.generate

install:  ## into PREFIX (default /usr/local), with the systemd unit
	@sh systemd/install.sh PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" PYTHON="$(PYTHON)"

clean:  ## remove what was made, also downloaded nodes and the demo's state
	rm -rf .venv .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

venv:
	@$(PYTHON) tests/environment.py

venv-test:
	@$(PYTHON) tests/environment.py test dev
