# Floor 1: schedules as lists of actions. Sees base only.
noinst_LIBRARIES += schedules/libschedules.a
schedules_libschedules_a_SOURCES = \
	schedules/schedule.h schedules/build.h schedules/kinds.h \
	schedules/walk.h schedules/simulate.h schedules/draw.h \
	schedules/schedule.c schedules/kinds.c schedules/check.c \
	schedules/text.c schedules/parse.c schedules/lower.c \
	schedules/walk.c schedules/validate.c schedules/simulate.c schedules/draw.c \
	schedules/gpipe.c schedules/one_f_one_b.c schedules/forward.c schedules/forward_part.c \
	schedules/interleaved.c schedules/looped_bfs.c schedules/zb_v.c \
	schedules/dualpipe_v.c schedules/v_block.h schedules/v_block.c \
	schedules/v_memory.c schedules/v_1f1b.c
SCHEDULES_LIBS = schedules/libschedules.a
