# The world: ranks, control plane, rendezvous, local launch, supervision.
engine_libengine_a_SOURCES += \
	engine/address.c engine/address.h \
	engine/agent.c engine/agent.h \
	engine/agent_connect.c engine/agent_connect.h \
	engine/control.c engine/control.h \
	engine/coordinator.c engine/coordinator.h \
	engine/cores.c engine/cores.h \
	engine/hosts.c engine/hosts.h engine/hosts_internal.h \
	engine/hosts_door.c engine/hosts_listen.c \
	engine/launch.c engine/launch.h \
	engine/launch_ranks.c engine/launch_ranks.h \
	engine/launch_signals.c engine/launch_signals.h \
	engine/liveness.c engine/liveness.h \
	engine/meeting.c engine/meeting.h \
	engine/nodelist.c engine/nodelist.h \
	engine/place.c engine/place.h \
	engine/remote.c engine/remote.h \
	engine/world.c engine/world.h \
	engine/world_control.c engine/world_control.h
