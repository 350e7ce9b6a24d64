"""`pvc network trace`: follows the way of a VM's frames step by step and says where it breaks.

Owns the znode `nodes/<node>/trace`, a client's question to one node's daemon with its answer. What only a node can see
is asked of it (`asking.py`, `desk.py`); every judgement is in `decide/`. Changes nothing on any node.
"""
