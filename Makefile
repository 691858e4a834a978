# Two commands do everything from a fresh clone: `make story` and `make test`. Both set up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
export PYTHONHASHSEED := 0

.PHONY: setup story pipeline test test-all check hospital bench clean

setup: $(STAMP)

# uv unpacks torch's wheels several times faster than pip does; constraints.txt pins what was tested.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[teach,hospital,dev]'
	touch $@

# Four stories about each of three real films that come along and of a synthetic one (and of yours: make story IMAGE=film.dcm);
# with MODALITY=dermoscopy about two synthetic lesions (and of yours: make story MODALITY=dermoscopy IMAGE=lesion.jpg).
story: $(STAMP)
	@if [ -n "$(IMAGE)" ]; then $(BIN)/storyxai tell "$(IMAGE)" $(if $(MODALITY),--model $(MODALITY)) --out out/story; \
	elif [ -n "$(MODALITY)" ]; then rm -rf out/phantom-$(MODALITY) && \
	$(BIN)/storyxai data phantom --modality $(MODALITY) --count 2 --seed 7 --size 384 --out out/phantom-$(MODALITY) && \
	$(BIN)/storyxai tell out/phantom-$(MODALITY)/images --model $(MODALITY) --out out/story-$(MODALITY); \
	else rm -rf out/phantom && $(BIN)/storyxai data phantom --count 1 --seed 7 --out out/phantom && \
	$(BIN)/storyxai tell src/storyxai/examples out/phantom/images --out out/story; fi

pipeline: $(STAMP)
	$(BIN)/storyxai pipeline recipes/phantom.toml --out runs/phantom

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks recipes examples
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floor_plan.py

# One thread in each of the two workers: threads that wait for one another cost twice the time. The floor plan has been
# tested by `check`.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/test_floor_plan.py

# Prints, at the end, which share of the lines and branches of src the tests ran.
test: check
	@mkdir -p build
	$(PYTEST) -m "not slow" --cov --cov-report=
	@$(BIN)/python tests/house.py

# With the slow tests too.
test-all: check
	@mkdir -p build
	$(PYTEST) --cov --cov-report=
	@$(BIN)/python tests/house.py

# A hospital in small: Orthanc gets a film and sends it to a node, which answers; stays up until Ctrl-C to be looked at.
hospital: $(STAMP)
	$(BIN)/python tests/node/hospital.py

# Explanations beside the libraries that people use: time, memory, agreement; into results/bench (about ten minutes).
bench: $(STAMP)
	$(BIN)/python benchmarks/side_by_side.py

clean:
	rm -rf $(VENV) out runs build *.egg-info src/*.egg-info
