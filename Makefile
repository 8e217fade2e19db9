# Every target first sets up what it needs in .venv, and costs nothing where that is done.
#
#   make lab LAB_ARGS="--no-browser --port 8899"   arguments for JupyterLab
#   make test TEST_ARGS="-x tests/losses" JOBS=4   arguments for pytest, and how many processes run the tests
#   make grade GRADE_ARGS="--force"                arguments for `ganlib grade`
#   make lab PYTHON=python3.12                     the Python to build .venv from
#   make lab PIP_ARGS="..."                        arguments for pip, such as the ones pytorch.org's selector shows
#                                                  for the CPU build, a tenth of the CUDA build's size
#
# GNU make 3.81, which macOS ships, is enough.

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 python3.10
JOBS ?= 2
PY := .venv/bin/python
ASSIGNMENTS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard assignments/source/*/*.ipynb)))))

.PHONY: help lab test notebooks bench release grade formgrader feedback
.DELETE_ON_ERROR:
.NOTPARALLEL:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

lab: .venv/.course ## open JupyterLab on the notebooks
	$(PY) -m jupyterlab --FileContentsManager.preferred_dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

# Whole test files go to one process, so that what a module's fixture trained is trained once; a process computes on
# one thread, since two processes on two threads each only wait for one another.
test: .venv/.test ## check the style and run the tests
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

notebooks: .venv/.course ## execute the notebooks at the cpu budget and store their outputs
	GANLIB_BUDGET=cpu $(PY) -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=-1 \
	    --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

bench: .venv/.bench ## time the trainer against a textbook loop and other libraries
	for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

release: ## write what students get to assignments/release/
grade: ## grade what lies in assignments/submitted/
formgrader: .venv/.grading ## open JupyterLab in assignments/, to grade the written answers in Formgrader
	cd assignments && ../$(PY) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

feedback: ## write the feedback pages to assignments/feedback/

release: $(ASSIGNMENTS:%=release-%)
grade: $(ASSIGNMENTS:%=grade-%)
feedback: $(ASSIGNMENTS:%=feedback-%)

release-%: .venv/.grading
	cd assignments && ../$(PY) -m nbgrader generate_assignment --force $*

# nbgrader knows an assignment once it was released.
grade-%: .venv/.grading
	@test -d assignments/release/$* || $(MAKE) release-$*
	$(PY) -m ganlib grade $* $(GRADE_ARGS)

feedback-%: .venv/.grading
	@if ls -d assignments/autograded/*/$* >/dev/null 2>&1; then \
	    cd assignments && ../$(PY) -m nbgrader generate_feedback $*; fi

# The stamps .venv/.course, .grading, .test and .bench say that these extras are installed as pyproject.toml has
# them. They are written only after pip has succeeded, so an install that was interrupted is taken up again.
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check $(PIP_ARGS) --editable

.venv/.course: .venv/.created pyproject.toml
	$(PIP_INSTALL) '.[course,chem]'
	@touch $@

.venv/.grading: .venv/.created pyproject.toml
	$(PIP_INSTALL) '.[course,chem,grading]'
	@touch .venv/.course $@

.venv/.test: .venv/.created pyproject.toml
	$(PIP_INSTALL) '.[course,chem,grading,test]'
	@touch .venv/.course .venv/.grading $@

.venv/.bench: .venv/.created pyproject.toml
	$(PIP_INSTALL) '.[course,chem,grading,bench]'
	@touch .venv/.course .venv/.grading $@

# .venv/.created holds the folder it was made in: once that moves, or the Python that made it goes, the scripts in
# .venv point nowhere and it is made anew. A .venv made by other means is taken as it is if its pip works.
ifneq ($(shell test -x $(PY) && cat .venv/.created 2>/dev/null),$(CURDIR))
.PHONY: .venv/.created
endif
.venv/.created:
	@if test -e $@ || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    for python in $(PYTHON) none; do \
	        "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && break; \
	    done; \
	    if test "$$python" = none; then \
	        echo "ganlib needs Python 3.10 or newer, and none of these is one: $(PYTHON)." >&2; \
	        echo "Install one, or say where it is: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv; \
	fi
	@echo '$(CURDIR)' > $@
