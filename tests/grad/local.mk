# Gradients against a double-precision reference, and the layers' promises.
GRAD_SUPPORT = \
	tests/grad/check.c tests/grad/check.h \
	tests/grad/reference.c tests/grad/reference.h \
	tests/grad/rig.c tests/grad/rig.h
if HAVE_CMOCKA
check_PROGRAMS += tests/grad/test-gpt2 tests/grad/test-layers \
	tests/grad/test-primitives
TESTS += tests/grad/test-gpt2 tests/grad/test-layers \
	tests/grad/test-primitives

tests_grad_test_gpt2_SOURCES = tests/grad/test-gpt2.c $(GRAD_SUPPORT)
tests_grad_test_gpt2_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_gpt2_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_grad_test_layers_SOURCES = tests/grad/test-layers.c $(GRAD_SUPPORT)
tests_grad_test_layers_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_layers_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)

tests_grad_test_primitives_SOURCES = tests/grad/test-primitives.c \
	$(GRAD_SUPPORT)
tests_grad_test_primitives_CPPFLAGS = $(TEST_CPPFLAGS)
tests_grad_test_primitives_LDADD = $(MODEL_LIBS) $(BASE_LIBS) $(CMOCKA_LIBS)
endif
