"""The command line `pvc`: talks to ZooKeeper only, never to a hypervisor."""
