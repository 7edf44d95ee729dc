# Floor 2: joins the four pillars.
noinst_LIBRARIES += engine/libengine.a
engine_libengine_a_SOURCES =
ENGINE_LIBS = engine/libengine.a
include engine/world.mk
