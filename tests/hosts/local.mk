# Several hosts: network namespaces (root only), mpirun and a Slurm of our own
# where they are installed. Too slow under sanitizers.
HOSTS_TESTS = tests/hosts/test-hosts.sh tests/hosts/test-mpirun.sh \
	tests/hosts/test-replicas.sh tests/hosts/test-tied.sh \
	tests/hosts/test-slurm.sh tests/hosts/test-stores.sh \
	tests/hosts/test-vanish.sh
dist_check_SCRIPTS += $(HOSTS_TESTS)
TESTS_ALONE += $(HOSTS_TESTS)
if !SANITIZED
TESTS += $(HOSTS_TESTS)
endif
EXTRA_DIST += tests/hosts/lib.sh tests/hosts/enter tests/hosts/remote-shell \
	tests/hosts/blind-shell \
	tests/hosts/slurm-up tests/hosts/slurm-down
