# Floor 2: joins the four pillars.
noinst_LIBRARIES += engine/libengine.a
engine_libengine_a_SOURCES = \
	engine/accumulator.c engine/accumulator.h \
	engine/agreement.c engine/agreement.h \
	engine/ahead.c engine/ahead.h \
	engine/calibrate.c engine/calibrate.h \
	engine/calibrate_link.c \
	engine/calibrate_rig.c engine/calibrate_rig.h \
	engine/carry.c engine/carry.h \
	engine/checkpoint.c engine/checkpoint.h \
	engine/checkpoint_tensors.c engine/checkpoint_tensors.h \
	engine/choice.c engine/choice.h \
	engine/collective.c engine/collective.h \
	engine/costs.c engine/costs.h engine/costs_model.c \
	engine/costs_grid.c engine/costs_grid.h \
	engine/evaluate.c \
	engine/event_file.c engine/event_file.h \
	engine/exchange.c engine/exchange.h \
	engine/ferry.c engine/ferry.h \
	engine/merge.c engine/merge.h \
	engine/findings.c engine/findings.h \
	engine/flights.c engine/flights.h \
	engine/generate.c \
	engine/grid.h \
	engine/holding.c engine/holding.h \
	engine/history.c engine/history.h \
	engine/host.c engine/host.h \
	engine/interpreter.c engine/interpreter.h \
	engine/job.c engine/job.h \
	engine/journal.c engine/journal.h \
	engine/learning_rate.c engine/learning_rate.h \
	engine/measure.c \
	engine/memory_use.c engine/memory_use.h \
	engine/metrics.c engine/metrics.h \
	engine/optimizer.c engine/optimizer.h \
	engine/partition.c engine/partition.h \
	engine/partition_search.c engine/partition_search.h \
	engine/pipeline.c engine/pipeline.h \
	engine/plan.c engine/plan.h \
	engine/reach.c engine/reach.h engine/reach_compare.c \
	engine/reach_find.c \
	engine/reduce.c engine/reduce.h \
	engine/reducer.c engine/reducer.h \
	engine/reduction.c engine/reduction.h \
	engine/route.c engine/route.h \
	engine/run.c engine/run.h \
	engine/shards.c engine/shards.h \
	engine/score.c \
	engine/slots.c engine/slots.h \
	engine/stage.c engine/stage.h \
	engine/store.c engine/store.h \
	engine/suggest.c engine/suggest.h \
	engine/tensorboard.c engine/tensorboard.h \
	engine/tie.c engine/tie.h \
	engine/timeline.c engine/timeline.h engine/timeline_read.c \
	engine/trace.c engine/trace.h engine/trace_json.c engine/trace_json.h \
	engine/traffic.c engine/traffic.h \
	engine/train.c \
	engine/vote.c engine/vote.h
include engine/world.mk
ENGINE_LIBS = engine/libengine.a
