#include "bindings.hpp"
#include "selfheal/version.hpp"

// Objects belong to one thread at a time and the module's only global is atomic, so the
// free-threaded interpreter may go without its lock.
PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "The C++ core of selfheal-edge.";
  m.attr("__version__") = SELFHEAL_VERSION;
  bind_errors(m);
  bind_ring_buffer(m);
  bind_moments(m);
  bind_run_length(m);
  bind_detectors(m);
  bind_learning_detectors(m);
  bind_reference(m);
  bind_monitor_bank(m);
  bind_side_by_side(m);
  bind_signals(m);
  bind_crc32c(m);
  bind_weight_image(m);
  bind_snapshot_pool(m);
  bind_image_guard(m);
  bind_image_set(m);
  bind_engine(m);
  bind_interpreter_call(m);
  bind_compiled_model(m);
  bind_turn_lock(m);
  bind_inference_monitor(m);
  bind_hot_path(m);
}
