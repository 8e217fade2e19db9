"""Grading a class: judge and student are two processes, and the student's is confined. ``ganlib grade``
runs it.

A submission's way, and where each step is written:

1. **Read.** :mod:`~ganlib.grading.collect` unpacks archives, :mod:`~ganlib.grading.submissions` reads
   folders, :mod:`~ganlib.grading.homework` the instructor's notebook; :mod:`~ganlib.grading.sanitise` puts
   a student's answers into it, :mod:`~ganlib.grading.detect` looks for imports of ganlib's own answers.
2. **Judge.** :mod:`~ganlib.grading.station` is a machine's place to grade: two fork servers
   (:mod:`~ganlib.grading.forkserver`, :mod:`~ganlib.grading.child`; :mod:`~ganlib.grading.zygote`, the
   process; where nothing forks, :mod:`~ganlib.grading.spawn`). From one come judges
   (:mod:`~ganlib.grading.judge`), which hold the tests and never run a student's code; from the other
   students' processes (:mod:`~ganlib.grading.student`), which never see a test. Plain data goes between
   them (:mod:`~ganlib.grading.wire`).
3. **Confine.** :mod:`~ganlib.grading.sandbox` starts the students' server under
   :mod:`~ganlib.grading.bubblewrap`; each process confines itself (:mod:`~ganlib.grading.confine`);
   :mod:`~ganlib.grading.cgroup` and :mod:`~ganlib.grading.watchdog` bound what it uses with all it starts.
   :mod:`~ganlib.grading.doctor` tries whether that holds on a machine.
4. **Record.** :mod:`~ganlib.grading.run` grades a class in parallel and keeps a journal,
   :mod:`~ganlib.grading.gradebook` writes nbgrader's gradebook, :mod:`~ganlib.grading.report` and
   :mod:`~ganlib.grading.similarity` what the instructor reads.

Nothing is imported here: each part costs only where it is used.
"""
