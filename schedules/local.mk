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
	schedules/v_memory.c schedules/v_1f1b.c \
	schedules/search.h schedules/search_problem.h schedules/search_plan.h \
	schedules/search_judge.h schedules/search_greedy.h \
	schedules/search_seeds.h schedules/search_climb.h \
	schedules/search_settle.h schedules/search_bound.h \
	schedules/search.c schedules/search_problem.c schedules/search_plan.c \
	schedules/search_judge.c schedules/search_greedy.c \
	schedules/search_seeds.c schedules/search_climb.c \
	schedules/search_settle.c schedules/search_bound.c
SCHEDULES_LIBS = schedules/libschedules.a
