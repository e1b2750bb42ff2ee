"""The control plane: what is published, who may, which device should run what, what happened.

It keeps no state of its own: everything is in one database and one folder of
files, so that a killed server goes on where its last answer left off.
"""
