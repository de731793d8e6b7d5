# Everything starts here: `make demo` plays, `make test` checks. Each target sets up what it needs.
#
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu   the CPU build of PyTorch, 200 MB
#   make demo DEMO_GAME=breakout DEMO_MINUTES=30                 another game, longer
#   make test PYTEST_ARGS="-k replay"                            some of the tests

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The index that torch comes from; empty means the one that pip is set up with.
TORCH_INDEX ?=
DEMO_GAME ?= boxing
DEMO_PRESET ?= demo
DEMO_MINUTES ?= 10
DEMO_SEED ?= 0
DEMO_RUN ?= runs/demo
DEMO_VIDEO := $(DEMO_RUN)/videos/$(DEMO_GAME).mp4
FUZZ_SECONDS ?= 3600
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=

# Data sets that lie beside the checkout are used from there.
ifneq ($(wildcard ../shared/data),)
export EIGHTBIT_DATA ?= $(abspath ../shared/data)
endif
# One thread for each test process: two processes share two cores better than four threads do.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1

.PHONY: help install demo test test-long lint format bench fuzz clean

help:
	@echo "make demo       an agent learns $(DEMO_GAME) from pixels in $(DEMO_MINUTES) minutes; ends with a video"
	@echo "make test       lint, format, types and the fast tests"
	@echo "make test-long  all tests"
	@echo "make lint       ruff and mypy only"
	@echo "make bench      side-by-side measurements against peers (about half an hour, alone)"
	@echo "make fuzz       plays random programs on the console under sanitizers (an hour)"
	@echo "make clean      removes $(VENV) and everything built; keeps runs/"

install: $(VENV)/.installed

CONSOLE := $(wildcard envs/console/*.h envs/console/*.cpp)

$(VENV)/.installed: pyproject.toml setup.py constraints.txt $(CONSOLE)
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("EightBit needs Python 3.10 or later; choose one with PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch
endif
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

# mypy wants a folder that is called like the package.
$(VENV)/typing/eightbit: $(VENV)/.installed
	mkdir -p $(dir $@)
	ln -sfn "$(CURDIR)" $@

demo: $(VENV)/.installed
	rm -rf $(DEMO_RUN)
	$(BIN)/eightbit train $(DEMO_GAME) --preset $(DEMO_PRESET) --minutes $(DEMO_MINUTES) \
		--seed $(DEMO_SEED) --out $(DEMO_RUN)
	$(BIN)/eightbit evaluate $(DEMO_RUN) --controls
	$(BIN)/eightbit watch $(DEMO_RUN) -o $(DEMO_VIDEO)
	@echo "The video: $(abspath $(DEMO_VIDEO))"

lint: $(VENV)/typing/eightbit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(VENV)/typing $(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m 'not long and not gpu' \
		--durations=20 $(PYTEST_ARGS)

test-long: lint
	$(TEST_ENV) $(BIN)/python -m pytest --durations=20 $(PYTEST_ARGS)

# One after the other: a measurement shares the machine with nobody.
bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/stepping.py
	$(BIN)/python benchmarks/console.py --threads 1
	$(BIN)/python benchmarks/console.py --threads 2 --num-envs 16
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/priorities.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/text_speed.py
	$(BIN)/python benchmarks/translate_speed.py
	# Without a checkout of CleanRL the record that holds its figures is left as it is.
	$(BIN)/python benchmarks/updates.py $(if $(CLEANRL),--peer $(CLEANRL),--out build/bench)

# What is inlined always would be compiled for ten minutes with all the checks in it.
FUZZ_FLAGS := -O1 -g1 -std=c++17 -fwrapv -ffp-contract=off -pthread -Dalways_inline= -Wall -Wextra \
	-D_GLIBCXX_ASSERTIONS -D_GLIBCXX_SANITIZE_VECTOR -fsanitize=address,undefined -fno-sanitize-recover=all

build/console_fuzz: $(wildcard tests/envs/*.cpp tests/envs/*.h envs/console/*.h)
	mkdir -p $(dir $@)
	$(CXX) $(FUZZ_FLAGS) -Ienvs/console tests/envs/console_fuzz.cpp -o $@

fuzz: build/console_fuzz
	$< $(FUZZ_SECONDS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
