# make demo: set up .venv and run the demo robot for a minute, nothing plugged in; it prints its web page
# make test: set up .venv and run the tests and static checks
# make long-test: all pages' commands, examples' contracts, each bench once, other whole runs; half an hour
# make docs: build the documentation site into build/docs; a warning is an error
# make world-test: the tests of simulated worlds with the oldest MuJoCo that is supported
# make native-test: build and run the C tests, as debug and as release
# make fuzz: two minutes for each fuzz target, by libFuzzer and atheris; needs clang
# make sanitize: the C tests under ASAN+UBSAN and under TSAN, the Python tests on an ASAN build, make fuzz
# make mutants: plants mistakes in the core and counts those that a test notices; an hour or so
# make faults: 200 random faults per mode on the emulated arm in motion, in random order (a quarter of an hour)
# make vm-test: the tests that need a kernel's own devices, in a virtual machine (tests/vm/README.md)
# make bare-test: both commands on bare Debian systems, by a user and by root (tests/bare/README.md)
# make first-hour: counts what a person types on a bare system, up to three goals (tests/bare/README.md)
# make models-test: new schedules for models of other people's packages (tests/other_models/README.md)
# make readers-test: recordings and live views in readers of other people (tests/other_readers/README.md)
# make policy-servers-test: a policy server's protocol, by the package openpi-client (tests/other_servers/README.md)
# make damiao-test: the emulated Damiao motors, moved by a second package of other people
# make ur-test: the emulated arm of Universal Robots, by ur_rtde's client
# make franka-test: a Franka arm before a simulator of other people, the emulated one before the maker's client
# make lerobot-test: exported recordings in LeRobot's loader, schedules as its robots (tests/other_readers/README.md)
# make ray-test: rollouts on a Ray cluster of this machine's processes, workers and nodes that die
# make trainers-test: PPO in one file, stable-baselines3 and RLlib, on our environment and workers;
#     a network from demonstrations
# make page-test: clicks through the web page in a headless Chromium, and keeps its pictures
# make vendor: builds other people's parts of the web page again, from npm, and compares them
# make wheel: the package for an index, in dist; auditwheel names the systems that it runs on
# make transports: other people's transports, for python -m benches peers
# make bench: the figures of benches/README.md, beside their yardsticks; wants a quiet machine
PYTHON ?= python3
BIN := .venv/bin
CMAKE := $(abspath $(BIN))/cmake
CTEST := $(abspath $(BIN))/ctest
PACKAGE := $(shell find middleware drivers -name '*.py')
NATIVE := $(wildcard native/*.h native/*.py native/CMakeLists.txt native/src/*)

# pip is silent about newer versions of itself, and about root, who owns .venv as any user does
CALM := --disable-pip-version-check --root-user-action=ignore

comma := ,

# install with the pip of a Python, and say in a line each what it does; errors are shown as they are
# $(1): the Python. $(2): what to install
define pip_install
@mkdir -p build; rm -f build/pip-failed
@{ $(1) -m pip install --progress-bar off $(CALM) $(2) || touch build/pip-failed; } | sed -u -n \
    -e 's/^ *Collecting \([A-Za-z0-9._-]*\).*/  fetches \1/p' \
    -e 's/^ *Installing build dependencies: started.*/  fetches what the C core is built with/p' \
    -e 's/^ *Building \(editable\|wheel\) for inphase .*: started.*/  builds the C core/p' \
    -e 's/^Installing collected packages.*/  installs them/p'
@test ! -e build/pip-failed
endef

# what native/fuzz looks at: the program, and inputs of its smoke run
FUZZ_TARGETS := packets wire mailbox posts guard_page store
# and tests/fuzz/doors.py
FUZZ_DOORS := description schedule onnx safetensors zmtp
FUZZ_RUNS := 10000
FUZZ_SECONDS ?= 120
CLANG ?= $(firstword $(notdir $(wildcard $(addsuffix /clang,$(subst :, ,$(PATH))) \
    $(addsuffix /clang-[12]?,$(subst :, ,$(PATH))))))

WORLD_TESTS := tests/test_world.py tests/test_actuators.py tests/test_timing_model.py tests/test_randomisation.py

.PHONY: demo test long-test lint docs native-test walk fuzz-smoke fuzz world-test sanitize mutants faults vm-test \
    bare-test first-hour models-test readers-test policy-servers-test damiao-test ur-test franka-test lerobot-test ray-test trainers-test page-test \
    vendor wheel transports bench clean always

demo: .venv/installed
	$(BIN)/inphase run schedules/demo.toml --seconds 60

# tests with robots in real time wait for a third of their time; with four at a time on two cores
# eight of 1047 failed, and passed by themselves
WAITING = $$(($$(nproc) * 3 / 2))

# what needs no core of its own goes two at a time; the Python tests share the cores by themselves
test: .venv/installed
	$(MAKE) --no-print-directory --jobs 2 lint docs walk fuzz-smoke world-test
	$(BIN)/python -m pytest --numprocesses auto -m "not real and not long"
	$(BIN)/python -m pytest --numprocesses $(WAITING) --dist loadfile -m "real and not long" || $(again)

long-test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m long || $(again)

world-test: build/oldest/installed
	build/oldest/bin/python -m pytest --numprocesses auto $(WORLD_TESTS)

# a second environment: the same package with the oldest simulator
build/oldest/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/oldest: fetches the oldest MuJoCo and builds the C core; a minute or two."
	@test -x build/oldest/bin/python || $(PYTHON) -m venv build/oldest
	$(call pip_install,build/oldest/bin/python,'.[sim$(comma)testing]' hypothesis pytest-xdist 'mujoco==3.17.0')
	@touch $@

# an editable install has a list of the modules: another list wants another install
build/modules: always
	@mkdir -p build
	@printf '%s\n' $(sort $(PACKAGE)) | cmp -s - $@ || printf '%s\n' $(sort $(PACKAGE)) > $@

.venv/installed: pyproject.toml $(NATIVE) build/modules
	@test -x $(BIN)/python || echo "Set-up, 1 of 2: makes a Python environment in .venv."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Set-up, 2 of 2: fetches Python packages (900 MB on disk) and builds the C core;" \
	    "a minute or two."
	$(call pip_install,$(BIN)/python,--editable '.[all$(comma)dev]')
	@touch $@

# what failed beside another test that wants the same cores, by itself: the wall clock is real there
again = $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

# configure, build and run the C tests of one preset of native/CMakePresets.json
define run_preset
cd native && $(CMAKE) --preset $(1) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja >/dev/null
cd native && $(CMAKE) --build --preset $(1)
cd native && $(CTEST) --preset $(1)
endef

native-test: .venv/installed
	$(call run_preset,test)
	$(call run_preset,release)

# the walk through a robot's states, far: its short form is one of the C tests
walk: native-test
	build/native-release/tests/test_walk 10000000

# the seeds, and seeds changed at random: any compiler
fuzz-smoke: .venv/installed
	cd native && $(CMAKE) --preset fuzz -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja >/dev/null
	cd native && $(CMAKE) --build --preset fuzz
	for target in $(FUZZ_TARGETS); do \
	    build/native-fuzz/fuzz/fuzz_$$target native/fuzz/seeds/$$target $(FUZZ_RUNS) || exit 1; \
	done

# guided by the code that an input reaches; what it found is kept in build/corpus
fuzz: .venv/installed
	@test -n "$(CLANG)" || { echo "make fuzz needs clang and its runtime:" \
	    "apt-get install clang libclang-rt-dev; make fuzz-smoke does without"; exit 1; }
	cd native && CC=$(CLANG) $(CMAKE) --preset libfuzzer \
	    -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja >/dev/null
	cd native && $(CMAKE) --build --preset libfuzzer
	for target in $(FUZZ_TARGETS); do \
	    mkdir -p build/corpus/$$target; \
	    build/native-libfuzzer/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) \
	        -artifact_prefix=build/corpus/$$target- build/corpus/$$target \
	        native/fuzz/seeds/$$target || exit 1; \
	done
	$(BIN)/python -m pip install --quiet 'atheris>=3'
	for door in $(FUZZ_DOORS); do \
	    mkdir -p build/corpus/$$door; \
	    $(BIN)/python tests/fuzz/doors.py $$door -max_total_time=$(FUZZ_SECONDS) \
	        -artifact_prefix=build/corpus/$$door- build/corpus/$$door \
	        tests/fuzz/seeds/$$door || exit 1; \
	done

sanitize: .venv/installed build/asan/installed
	$(call run_preset,asan)
	$(call run_preset,tsan)
	rm -f build/asan/report.*
	LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so) \
	    $$($${CC:-cc} -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:log_path=$(abspath build/asan/report) \
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$(abspath build/asan/report) \
	PYTHONMALLOC=malloc build/asan/bin/python -m pytest
	! ls build/asan/report.*
	$(MAKE) fuzz

# a second environment: the same package, with its core built for ASAN+UBSAN
build/asan/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/asan: fetches Python packages and builds the C core for ASAN."
	@test -x build/asan/bin/python || $(PYTHON) -m venv build/asan
	$(call pip_install,build/asan/bin/python, \
	    --config-settings=cmake.define.INPHASE_SANITIZE=address$(comma)undefined \
	    --config-settings=build-dir=build/asan-core '.[all$(comma)dev]')
	touch $@

# COUNT=20 SEED=2 for another sample; broken off, it goes on where it was
mutants: .venv/installed
	$(BIN)/python tests/mutants.py --count $(or $(COUNT),100) --seed $(or $(SEED),1)

faults: .venv/installed
	INPHASE_FAULTS=200 $(BIN)/python -m pytest --numprocesses auto -s tests/test_random_faults.py

vm-test: .venv/installed
	$(BIN)/python tests/vm/run.py

bare-test:
	$(PYTHON) tests/bare/run.py

first-hour: wheel
	$(PYTHON) tests/bare/first_hour.py

models-test: build/models/installed
	build/models/bin/python tests/other_models/run.py

# a third environment: the package, and models of other packages as files
build/models/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/models: fetches MuJoCo and 250 MB of models, and builds the C core."
	@test -x build/models/bin/python || $(PYTHON) -m venv build/models
	$(call pip_install,build/models/bin/python,'.[sim$(comma)gym]')
	$(call pip_install,build/models/bin/python,--no-deps robosuite gymnasium-robotics dm_control)
	@touch $@

readers-test: .venv/installed build/readers/installed
	$(BIN)/python tests/other_readers/run.py

# readers in Python and in JavaScript, and the package, which streams into one of them
build/readers/installed: pyproject.toml $(NATIVE) $(PACKAGE) $(wildcard tests/other_readers/*.mjs)
	@echo "Set-up of build/readers: fetches 300 MB of other people's readers, and builds the C core."
	@test -x build/readers/bin/python || $(PYTHON) -m venv build/readers
	$(call pip_install,build/readers/bin/python,'.[rerun]' 'pymcap-cli>=0.34')
	cp tests/other_readers/*.mjs build/readers
	cd build/readers && npm install --silent --no-audit @mcap/core@2 @mcap/nodejs@1 \
	    @foxglove/ws-protocol@0.8 protobufjs@7 ws@8
	@touch $@

policy-servers-test: .venv/installed build/peers/installed
	$(BIN)/python tests/other_servers/run.py

# openpi's client, and what it imports and does not ask for
build/peers/installed:
	@echo "Set-up of build/peers: fetches openpi-client and NumPy, 150 MB on disk."
	@test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	$(call pip_install,build/peers/bin/python,openpi-client==0.1.2 typing_extensions)
	@touch $@

# the package's own list of what it needs holds python-can back; its motor's class needs nothing else
damiao-test: .venv/installed build/damiao/installed
	PYTHONPATH=build/damiao $(BIN)/python -m pytest tests/test_damiao.py -k package

build/damiao/installed:
	@echo "Set-up of build/damiao: fetches fastgripper-dm, 1 MB on disk."
	$(call pip_install,$(BIN)/python,--no-deps --target build/damiao fastgripper-dm==0.1.1)
	@touch $@

ur-test: .venv/installed build/ur/installed
	$(BIN)/python -m pytest -q -rs tests/test_ur.py

# the client of other people that takes our emulator for a robot
build/ur/installed:
	@echo "Set-up of build/ur: fetches ur_rtde, 20 MB on disk."
	@test -x build/ur/bin/python || $(PYTHON) -m venv build/ur
	$(call pip_install,build/ur/bin/python,ur_rtde==1.6.5)
	@touch $@

franka-test: .venv/installed build/franka/installed
	$(BIN)/python -m pytest -q -rs tests/test_franka.py
	$(BIN)/python tests/other_servers/franka_run.py

# a simulator that polices its client, the maker's client, and a model of the arm from a third package
build/franka/installed:
	@echo "Set-up of build/franka: fetches franka-sim, pylibfranka and MuJoCo, 400 MB on disk."
	@test -x build/franka/bin/python || $(PYTHON) -m venv build/franka
	$(call pip_install,build/franka/bin/python,franka-sim==1.1.7 pylibfranka==0.21.3)
	$(call pip_install,build/franka/bin/python,--no-deps franky-sim==1.0.4)
	@touch $@

lerobot-test: .venv/installed build/lerobot/installed
	$(BIN)/python tests/other_readers/lerobot_run.py
	build/lerobot/bin/python tests/other_readers/lerobot_robot.py

# LeRobot, of what it asks for the packages that its loader and its robots import; the package as it
# is installed, and its plug-in
build/lerobot/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/lerobot: fetches LeRobot and PyTorch, 6 GB on disk; builds the C core."
	@test -x build/lerobot/bin/python || $(PYTHON) -m venv build/lerobot
	$(call pip_install,build/lerobot/bin/python,torch==2.7.1 torchvision==0.22.1 accelerate \
	    'av>=15$(comma)<16' 'datasets>=4$(comma)<5' deepdiff 'diffusers<0.36' 'draccus==0.10.0' \
	    einops gymnasium 'huggingface-hub<0.36' imageio jsonlines opencv-python-headless \
	    packaging pyserial 'rerun-sdk>=0.24$(comma)<0.27' '.[export$(comma)onnx$(comma)sim]')
	$(call pip_install,build/lerobot/bin/python,--no-deps lerobot==0.4.4 ./drivers/lerobot_robot_inphase)
	@touch $@

ray-test: build/ray/installed
	build/ray/bin/python -m pytest tests/test_rollout_ray.py

# the package as it is installed on the nodes of a cluster
build/ray/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/ray: fetches Ray and MuJoCo, 500 MB on disk, and builds the C core."
	@test -x build/ray/bin/python || $(PYTHON) -m venv build/ray
	$(call pip_install,build/ray/bin/python,'.[ray$(comma)sim$(comma)testing]' hypothesis psutil)
	@touch $@

trainers-test: build/trainers/installed
	build/trainers/bin/python -m pytest tests/test_trainers.py tests/test_imitate.py

# RLlib names gymnasium 1.2.2: an older one than the other tests have
build/trainers/installed: pyproject.toml $(NATIVE) $(PACKAGE)
	@echo "Set-up of build/trainers: fetches PyTorch and RLlib, 6 GB on disk; builds the C core."
	@test -x build/trainers/bin/python || $(PYTHON) -m venv build/trainers
	$(call pip_install,build/trainers/bin/python,'.[gym$(comma)onnx$(comma)ray$(comma)record$(comma)sim$(comma)testing]' \
	    hypothesis onnx psutil 'stable-baselines3==2.9.2' 'ray[rllib]==2.60.0')
	@touch $@

page-test: .venv/installed
	@for name in chromium-headless-shell chromium google-chrome; do command -v $$name && exit; done; \
	    echo "make page-test needs Chromium: apt install chromium-headless-shell"; exit 1
	INPHASE_PICTURES=build/page $(BIN)/python -m pytest tests/test_web.py tests/test_web_network.py \
	    tests/test_web_browser.py tests/test_web_phone.py

VENDORED := middleware/inphase/web/static/vendor

vendor:
	mkdir -p build/vendor
	cp middleware/inphase/web/vendor/* build/vendor
	cd build/vendor && npm ci --silent --no-audit --no-fund && npm run --silent build
	for file in $$(ls build/vendor/built); do cmp build/vendor/built/$$file $(VENDORED)/$$file || exit 1; done

wheel: .venv/installed
	rm -rf build/wheel dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --jobs auto \
	    -c docs . build/docs

transports: build/transports/installed

# zenoh, iceoryx2 and the others beside bare pyzmq, as the package index has them
build/transports/installed:
	@echo "Set-up of build/transports: fetches five transports, 150 MB on disk."
	@test -x build/transports/bin/python || $(PYTHON) -m venv build/transports
	$(call pip_install,build/transports/bin/python,pyzmq iceoryx2==0.10.0 eclipse-ecal==6.1.1 \
	    eclipse-zenoh==1.10.2 lcm==1.5.3 cyclonedds==11.0.1)
	@touch $@

bench: .venv/installed
	$(BIN)/python -m benches

clean:
	rm -rf .venv build dist
