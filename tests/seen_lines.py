# SPDX-License-Identifier: GPL-2.0-or-later
"""What used to befall builds, line by line as it was seen then, and the tests that provoke it now.

`fault_table` writes this into docs/faults.md with what the tests saw.
"""

from __future__ import annotations

from typing import Final

_BUILDS: Final = "tests/integration/test_faults_builds.py"
_HERE: Final = "tests/integration/test_faults_here.py"
_INTERRUPTS: Final = "tests/integration/test_faults_interrupts.py"
_JOBS: Final = "tests/integration/test_jobs.py"
_LINES: Final = "tests/integration/test_faults_lines.py"
_NAT: Final = "tests/integration/test_lend_nat.py"
_NODES: Final = "tests/integration/test_faults_nodes.py"
_RARE: Final = "tests/integration/test_faults_rare.py"
_SEVERAL: Final = "tests/integration/test_several.py"
_POOL: Final = "tests/component/test_cloud_pool.py"
_MEMORY: Final = "tests/component/test_memory_group.py"
_STORY: Final = "tests/unit/session/test_session_story.py"
_ENDING: Final = "tests/unit/steps/test_steps_ending.py"

SEEN: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "reset": (
        "a line that was reset for 5 s in %build: the node destroyed, everything again",
        "the same job goes on, with each line of its logs once",
        (
            f"{_LINES}::test_in_the_build",
            f"{_STORY}::test_a_lost_line_is_replaced_and_no_byte_is_lost_or_twice",
        ),
    ),
    "lent": (
        "a lent machine out of reach for a minute: 75 after 1 to 3 s, its job ended well",
        "it is asked again; who does not answer is not called gone",
        (
            f"{_NAT}::test_a_relay_that_restarts_in_the_build",
            "tests/unit/cloud/test_hosts_silent.py::test_it_is_not_said_to_be_gone",
        ),
    ),
    "upload": (
        "cut at 50 of 64 MiB of sources: all sent again",
        "goes on at the verified offset",
        (
            f"{_LINES}::test_while_sources_go",
            "tests/component/test_remote_transfer.py::test_an_upload_goes_on_where_the_line_broke",
        ),
    ),
    "fetch": (
        "cut while results came, or one bit flipped: the finished build was redone",
        "the rest is fetched, and what was wrong once more",
        (f"{_LINES}::test_while_results_come",),
    ),
    "ended": (
        '"the node was ended" was said where ending it failed',
        "said only where it is so; the journal has why not",
        (f"{_STORY}::test_a_node_that_could_not_be_ended_is_not_said_to_be",),
    ),
    "kill": (
        "kill -9 of a command: nothing could fetch its packages, the next command destroyed them",
        "the same command takes them up, another one leaves them alone",
        (
            f"{_JOBS}::test_a_killed_commands_build_is_taken_up",
            f"{_JOBS}::test_another_command_leaves_it_alone",
        ),
    ),
    "journal": (
        "the journal locked for 18 s at the job's end: the finished build thrown away",
        "results first: they are there, and the node stays",
        (
            f"{_HERE}::test_the_journal_is_locked_when_the_job_ends",
            f"{_HERE}::test_the_journal_stays_locked",
        ),
    ),
    "state disk": (
        "the state directory's disk full after the job: the finished build redone",
        "the build is published; what cannot be written here is a warning",
        (f"{_STORY}::test_a_full_state_disk_costs_no_finished_build",),
    ),
    "max_ttl": (
        'a build longer than max_ttl: "connection is lost", tried again, killed again',
        "said so, with what to raise; not tried again",
        (f"{_NODES}::test_a_build_that_is_longer_than_a_nodes_life",),
    ),
    "little life": (
        "warm nodes with little life left were taken for long builds",
        "with less than half of its life left a node is taken for a chroot that lives there alone",
        (
            "tests/unit/cloud/test_cloud_claim.py::test_a_node_with_less_than_half_its_life_left_is_not_used_for_a_new_chroot",
        ),
    ),
    "clock": (
        "a clock that was set by a day ended a busy local node",
        "it lives as long as before",
        (f"{_RARE}::test_the_clock_is_set_by_a_day",),
    ),
    "resultdir full": (
        "the resultdir's disk full: build lost, node destroyed",
        "the results wait on the node; attach fetches them",
        (
            f"{_BUILDS}::test_the_disk_of_the_resultdir_is_full",
            f"{_JOBS}::test_a_full_disk_keeps_the_results_waiting",
        ),
    ),
    "resultdir removed": (
        "the resultdir removed: build lost, node destroyed",
        "it is made anew, with all logs and packages; the node stays",
        (f"{_HERE}::test_the_resultdir_is_removed",),
    ),
    "many results": (
        "more than about 7,000 results: silent for 600 s, then 75",
        "listed in as many answers as it takes",
        ("tests/component/test_remote_transfer.py::test_more_results_than_one_answer_holds",),
    ),
    "many packages": (
        "40 packages in one command: nothing in the resultdir until all were built",
        "each is there while the next one is built",
        (
            f"{_SEVERAL}::test_each_package_is_there_while_the_next_one_is_built",
            f"{_STORY}::test_a_package_is_in_place_while_the_next_one_is_built",
        ),
    ),
    "memory": (
        'killed for memory: "Command failed"',
        "said so, with what to try",
        (
            f"{_RARE}::test_killed_for_memory",
            f"{_MEMORY}::test_who_is_killed_in_the_group_is_counted_and_who_is_outside_is_not",
        ),
    ),
    "others' memory": (
        "an ordinary failure blamed on memory when something else on the machine was killed",
        "only the job's own group is counted",
        (
            f"{_MEMORY}::test_a_job_that_moves_itself_out_is_not_called_killed_for_memory",
            "tests/component/test_engine_ends.py::test_a_job_that_is_killed_for_memory_says_so_and_one_beside_it_does_not",
        ),
    ),
    "queue": (
        "a second command on a full remote: 75 after 300 s; luck decided who was next",
        "it waits, and is served in turn",
        (
            f"{_NODES}::test_the_only_node_is_waited_for",
            f"{_POOL}::test_who_waits_is_served_in_turn",
        ),
    ),
    "release": (
        "release --all --force in a build made it buy a new node",
        "it ends with 75, and says who gave the node back",
        (f"{_STORY}::test_a_node_that_its_user_releases_by_force_is_not_replaced",),
    ),
    "Ctrl-C": (
        "Ctrl-C destroyed a warm node in every phase",
        "the warm node stays, clean",
        (
            f"{_INTERRUPTS}::test_a_warm_node_stays_before_the_job",
            f"{_INTERRUPTS}::test_in_rpmbuild",
            f"{_INTERRUPTS}::test_while_fetching",
        ),
    ),
    "dead line": (
        "Ctrl-C took 43 s on a dead line; a second one did nothing",
        "ten seconds at most; a second one returns at once; the job is stopped in the background",
        (
            f"{_LINES}::test_ctrl_c_on_a_dead_line",
            f"{_JOBS}::test_a_second_ctrl_c_leaves_the_rest",
            f"{_STORY}::test_ctrl_c_on_a_dead_line_leaves_the_rest_to_the_background",
        ),
    ),
    "ending": (
        "ending a node was waited for: 12 to 50 s, minutes for release --all of four",
        "on a terminal nobody waits; the journal has what is to end",
        (
            f"{_ENDING}::test_a_build_that_is_watched_does_not_wait_for_its_nodes_end",
            f"{_ENDING}::test_several_nodes_are_given_up_and_a_process_of_its_own_ends_them",
            f"{_ENDING}::test_the_journal_knows_before_the_process_is_there",
        ),
    ),
    "silent": (
        "nothing bounded a silent build",
        "ended by its node after `output_timeout`, with what ran",
        (f"{_RARE}::test_a_build_that_says_nothing",),
    ),
    "last lines": (
        '"Results and/or logs in:" and "Done(…)" were printed before the results were there',
        "printed when they are, and not at all where they do not arrive",
        (f"{_STORY}::test_nothing_is_called_done_before_its_results_are_here",),
    ),
    "own bytes": (
        "a rebuilt source package of 200 MB came back over the slow line though it is here",
        "what is here is not fetched",
        ("tests/component/test_remote_reuse.py::test_results_that_are_mostly_here",),
    ),
}
"""By a short name: what was seen then, what is to be seen now, and tests as PATH::NAME."""

TESTS: Final = {test: {name for name, (_, _, tests) in SEEN.items() if test in tests}
                for _, _, tests in SEEN.values() for test in tests}  # fmt: skip
"""By test: the lines that it provokes."""
