# Floor 1: bytes between ranks. Sees base only.
noinst_LIBRARIES += transport/libtransport.a
transport_libtransport_a_SOURCES =
transport_libtransport_a_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS)
TRANSPORT_LIBS = transport/libtransport.a $(URING_LIBS)
