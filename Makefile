# SPDX-License-Identifier: GPL-2.0-or-later
# Everything a newcomer runs. `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
LAB    ?= .lab
BIN    := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -q --progress $@
SRPM   ?=
MINUTES ?= 5
TIMES  ?= 1
MARK   ?= not slow
# Fresh systems for test-releases, and what they download.
RELEASES ?= /var/cache/mock-cloud-releases
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' mock_cloud/__init__.py)
# Debian's packages are not in the RPM database that rpmbuild would ask.
RPM_NODEPS := $(if $(wildcard /etc/debian_version),--nodeps)
CLOUDS := $(wildcard $(addprefix tests/integration/test_,$(addsuffix .py, \
	cleanups clouds_* faults_retries hosts images lab_* other_arches plugin rpkg_mock setup)))

# Checkouts for test-peers, and the tests that need one of them, or rpkg from PyPI.
PEERS := MOCK KOJI FEDPKG TITO COPR DLRN FEDORA_REVIEW
PEER_TESTS := tests/component/test_mock_engine.py tests/unit/config \
	tests/unit/invocation tests/unit/koji tests/unit/steps tests/unit/agent_rpm \
	$(patsubst %,tests/integration/test_%.py,koji_builder koji_calls koji_export mock_engine_modes \
	packaged_mock plugin repo_access rpkg rpkg_mock wrapper_scripts) \
	tests/integration/test_agreement.py::test_source_packages_of_other_rpms_end_alike

with_koji = $(if $(KOJI),MOCK_CLOUD_TEST_KOJI=$(abspath $(KOJI)))
# In a recipe's shell: a mock's checkout, and a Python that has what mock imports.
with_mock = $(if $(MOCK),MOCK_CLOUD_TEST_MOCK=$(abspath $(MOCK))/mock/py/mock.py MOCK_CLOUD_TEST_MOCK_SOURCE=$(abspath $(MOCK)) \
	MOCK_CLOUD_TEST_MOCK_PYTHON=$${MOCK_CLOUD_TEST_MOCK_PYTHON:-$$($(BIN)/python -m tests.peers.venvs)})

# Each command of the suite would compile the product anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help prepare venv lab lab-today lab-el9 demo demo-ec2 demo-systemd demo-trust demo-survive faults soak demo-stop test attack fuzz test-unit test-pythons test-releases test-newest test-rpm-system test-real-data test-systemd test-openstack test-koji demo-koji test-verify test-upstream test-component test-clouds test-commands test-slow test-reach test-peers peers-suite peers-programs peers-calls agreement cases screens codes lint type bench size rpm man clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make demo SRPM=foo.src.rpm   the same with your own package"

prepare: ## install what the lab and the tests need (apt or dnf, as root)
	@$(PYTHON) -m tests.lab prepare --dir $(LAB)

venv: $(VENV)/.stamp ## make the virtual environment

$(VENV)/.stamp: pyproject.toml setup.py | prepare
	@$(PYTHON) -m tests.lab step --dir $(LAB) venv 'pip installs mock-cloud and what its tests need into $(VENV)' -- \
		sh -ec '$(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install --disable-pip-version-check -e ".[test]"'
	@touch $@

lab: venv ## pack the lab's RPM distribution and its node image
	@$(BIN)/python -m tests.lab build --dir $(LAB)

lab-today: venv ## the same of today's generation: rpm 6, dnf5, systemd; in a tree of Debian testing
	@$(BIN)/python -m tests.lab build --generation today --dir $(LAB)

lab-el9: venv ## the same of EL 9's: rpm 4, dnf 4, systemd 252; in a tree of Debian 12
	@$(BIN)/python -m tests.lab build --generation el9 --dir $(LAB)

demo: lab ## build a package on an attested local node, then show a refusal
	@$(BIN)/python -m tests.lab demo --dir $(LAB) $(if $(SRPM),--srpm '$(SRPM)')

demo-stop: ## end what make demo left running
	@$(BIN)/python -m tests.lab demo-stop --dir $(LAB)

demo-ec2: lab ## the same on an instance of EC2's API, with cloud-init and an address of its own
	@$(BIN)/python -m tests.lab demo-ec2 --dir $(LAB) $(if $(SRPM),--srpm '$(SRPM)')

demo-systemd: lab lab-today ## machines with systemd in QEMU: bake an image of a stock one, build, refuse
	@$(BIN)/python -m tests.lab demo-systemd --dir $(LAB) $(if $(SRPM),--srpm '$(SRPM)')

demo-trust: lab ## machines of three owners, one of which lies: build twice, verify elsewhere, find the liar
	@$(BIN)/python -m tests.lab demo-trust --dir $(LAB) $(if $(SRPM),--srpm '$(SRPM)')

demo-survive: lab ## cut a build's line, kill -9 its command, attach again: its packages and 0
	@$(BIN)/python -m tests.lab demo-survive --dir $(LAB) $(if $(SRPM),--srpm '$(SRPM)')

faults: lab ## provoke each fault through the product, and write docs/faults.md
	@rm -f $(LAB)/faults.json
	@MOCK_CLOUD_WRITE_FAULTS=1 $(PYTEST) -m fault tests/component tests/integration \
		tests/unit/session tests/unit/steps tests/unit/cloud

soak: lab ## builds on six nodes under random faults, for MINUTES (5), repeatable by SEED
	@MOCK_CLOUD_SOAK_MINUTES=$(MINUTES) $(if $(SEED),MOCK_CLOUD_SOAK_SEED=$(SEED)) \
		$(PYTEST) -s -m soak tests/soak

# Three at once: most of them wait for something much of the time. What needs no lab fills the time
# until there is one. Each prints whole lines. With CI=true also the quick part on the newest release.
test: venv ## lint, types and all tests but the slow ones
	@$(MAKE) --no-print-directory -j3 \
		lab test-commands test-component lint type test-unit test-clouds
	@$(if $(CI),$(MAKE) --no-print-directory test-newest)

test-unit: venv ## the unit tests only: two minutes, no root
	@$(PYTEST) -m '$(MARK)' tests/unit

test-pythons: venv ## the unit tests under each supported Python that is here; the others are named
	@$(BIN)/nox

test-component: lab ## the tests of single parts with real peers, the quick attacks, a minute of fuzzing
	@$(PYTEST) -m '$(MARK)' tests/component tests/attack tests/fuzz

test-clouds: lab ## the tests of whole commands, with clouds and hosts
	@$(PYTEST) -m '$(MARK)' $(CLOUDS)

test-commands: lab ## the tests of whole commands, with local nodes
	@$(PYTEST) -m '$(MARK)' tests/integration $(addprefix --ignore=,$(CLOUDS))

test-slow: lab ## the rare, long tests: half an hour; what has a target of its own is not among them
	@$(MAKE) --no-print-directory -j3 MARK=slow test-unit test-commands test-component test-clouds

test-reach: lab ## repositories with secrets, proxies, bastions, relays: what docs/networks.md says
	@MOCK_CLOUD_WRITE_NETWORKS=1 $(PYTEST) -m 'slow or not slow' \
		tests/unit/repoproxy tests/unit/floor/test_floor_network.py \
		tests/unit/config/test_config_access.py tests/unit/config/test_config_tunnel.py \
		tests/unit/cloud/test_cloud_calls.py tests/component/test_ssh_config.py \
		tests/component/test_dnf_secrets.py tests/unit/steps/test_steps_fetching.py \
		tests/component/test_cloud_ways.py tests/component/test_remote_forward.py \
		tests/integration/test_repo_secrets.py tests/integration/test_repo_access.py \
		tests/integration/test_firm.py tests/integration/test_networks.py \
		tests/unit/cloud/test_hosts_route.py tests/component/test_remote_touch.py \
		tests/unit/attest/test_attest_remote_agents.py tests/unit/launcher/test_lend_relay_words.py \
		tests/component/test_lend_relay.py tests/integration/test_lend.py \
		tests/integration/test_lend_nat.py

test-peers: lab ## the tests with programs that call mock, and docs/peers.md: MOCK=checkout KOJI= FEDPKG= TITO= COPR= DLRN= FEDORA_REVIEW=
	@MOCK_CLOUD_WRITE_PEERS=1 MOCK_CLOUD_TEST_RPKG=pypi $(with_mock) \
		$(foreach peer,$(filter-out MOCK,$(PEERS)),$(if $($(peer)),MOCK_CLOUD_TEST_$(peer)=$(abspath $($(peer))))) \
		$(MAKE) --no-print-directory -k -j3 peers-suite peers-programs peers-calls; code=$$?; \
		$(foreach peer,$(PEERS),$(if $($(peer)),,echo "test-peers: not given: $(peer)=";)) exit $$code

peers-suite:
	@$(PYTEST) -rs -m 'slow or not slow' tests/peers/test_mock_suite.py

peers-programs:
	@$(PYTEST) -rs -m 'slow or not slow' tests/peers --ignore=tests/peers/test_mock_suite.py

peers-calls:
	@$(PYTEST) -rs -m 'slow or not slow' $(PEER_TESTS)

test-systemd: lab lab-today lab-el9 ## machines with systemd in QEMU: TIMES (1) new ones, a third as many reboots, tampers, docs/systemd.md
	@MOCK_CLOUD_WRITE_SYSTEMD=1 MOCK_CLOUD_SYSTEMD_TIMES=$(TIMES) $(PYTEST) -m slow tests/systemd

test-openstack: venv ## real Keystone, Glance, Nova and Neutron in a tree of Debian's, kept in .lab/openstack: docs/clouds.md
	@$(PYTEST) -rs -m openstack tests/real_openstack

test-koji: lab ## a real Koji, hub and builders, with nodes of the lab's EC2: KOJI=checkout MOCK=checkout
	@$(with_koji) $(with_mock) $(PYTEST) -rs -m koji tests/real_koji

demo-koji: lab ## a Koji of one's own with attested builders: KOJI=checkout
	@$(with_koji) $(BIN)/python -m tests.real_koji demo

attack: lab ## attack controller and node, all of it, and write the tables in docs/
	@MOCK_CLOUD_WRITE_ATTACKS=1 $(PYTEST) -m 'slow or not slow' tests/attack

fuzz: venv ## spoil the input of every parser of foreign bytes, for MINUTES (5)
	@$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES)

test-upstream: lab ## real upstream packages, each built on two nodes: the same bytes? The table in docs/verify.md
	@MOCK_CLOUD_WRITE_UPSTREAM=1 $(PYTEST) -m slow tests/integration/test_upstream_packages.py

test-real-data: venv ## what rpm and we say of real distributions' signatures, a table: REAL=directory
	@$(if $(REAL),MOCK_CLOUD_TEST_PACKAGES=$(abspath $(REAL))) $(BIN)/python -m tests.real

test-verify: venv ## spoiled results and what mock-cloud verify says of each, a table
	@$(BIN)/python -m tests.mutations

codes: venv ## write the lists of codes in docs/, from the table that explains them
	@MOCK_CLOUD_WRITE_CODES=1 $(PYTEST) -q tests/unit/attest/test_attest_documented.py

agreement: lab ## compare with a real mock, scenario by scenario, and write docs/agreement.md
	@$(with_mock) MOCK_CLOUD_WRITE_AGREEMENT=1 $(PYTEST) -m slow -k 'not case' tests/integration/test_agreement.py

cases: lab ## the same for small cases after public bug reports, and write docs/cases.md
	@$(with_mock) MOCK_CLOUD_WRITE_AGREEMENT=1 $(PYTEST) -m slow -k case tests/integration/test_agreement.py

screens: venv ## the pictures of terminals in docs/
	@$(BIN)/python -m tests.screens

test-releases: venv ## make demo and make test on fresh Debian 12, 13 and testing, about an hour
	@$(BIN)/python -m tests.releases --cache $(RELEASES)
	@$(MAKE) --no-print-directory test-rpm-system

test-newest: venv ## the unit tests and make demo on fresh Debian testing
	@$(BIN)/python -m tests.releases --cache $(RELEASES) --quick

test-rpm-system: lab ## make demo, and mock-cloud's own RPMs, on a system without dpkg
	@$(PYTEST) -m slow tests/releases

lint: venv ## ruff and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

type: venv ## mypy --strict
	@$(BIN)/mypy

bench: lab ## the ratios in docs/performance.md
	@$(BIN)/python -m tests.bench

size: venv ## how large the product is, for docs/architecture.md
	@$(BIN)/python -m tests.size

rpm: prepare ## build mock-cloud's own RPMs into build/rpm
	@rm -rf build/rpm && mkdir -p build/rpm/SOURCES
	@git archive --prefix=mock-cloud-$(VERSION)/ -o build/rpm/SOURCES/mock-cloud-$(VERSION).tar.gz HEAD
	@rpmbuild --quiet -ba $(RPM_NODEPS) --define '_topdir $(CURDIR)/build/rpm' mock-cloud.spec
	@find build/rpm -name '*.rpm'

clean: ## remove what make made, the lab included
	@rm -rf $(VENV) $(LAB) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
