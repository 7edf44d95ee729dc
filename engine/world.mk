# The world: ranks, control plane, rendezvous, local launch, supervision.
engine_libengine_a_SOURCES += \
	engine/control.c engine/control.h \
	engine/coordinator.c engine/coordinator.h \
	engine/cores.c engine/cores.h \
	engine/launch.c engine/launch.h \
	engine/launch_ranks.c engine/launch_ranks.h \
	engine/launch_signals.c engine/launch_signals.h \
	engine/liveness.c engine/liveness.h \
	engine/world.c engine/world.h \
	engine/world_control.c engine/world_control.h
