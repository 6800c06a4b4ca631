"""What a model costs on 64-bit Arm cores that are not there: the parts of aarch64_cost.py.

profile.py runs a program under qemu and reads what its plugin counted, paths.py splits that into loops, mca.py estimates their
cycles, engines.py makes the programs: mcc's object and the peers' wheels (guest.sh, guest.py). cores.py is the table of cores.
"""
