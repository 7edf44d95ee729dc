# The world: ranks, control plane, rendezvous, local launch, supervision.
engine_libengine_a_SOURCES += \
	engine/control.c engine/control.h \
	engine/coordinator.c engine/coordinator.h \
	engine/cores.c engine/cores.h \
	engine/launch.c engine/launch.h \
	engine/world.c engine/world.h
