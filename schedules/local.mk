# Floor 1: schedules as lists of actions. Sees base only.
noinst_LIBRARIES += schedules/libschedules.a
schedules_libschedules_a_SOURCES =
SCHEDULES_LIBS = schedules/libschedules.a
