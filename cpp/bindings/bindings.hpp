#pragma once

#include "class.hpp"

void bind_code_pages(py::module_& m);
void bind_committee(py::module_& m);
void bind_compiled_model(py::module_& m);
void bind_conditions(py::module_& m);
void bind_crc32c(py::module_& m);
void bind_detectors(py::module_& m);
void bind_engine(py::module_& m);
void bind_errors(py::module_& m);
void bind_fixed_share(py::module_& m);
void bind_hot_path(py::module_& m);
void bind_inference_monitor(py::module_& m);
void bind_interpreter_call(py::module_& m);
void bind_label_mix(py::module_& m);
void bind_learning_detectors(py::module_& m);
void bind_image_guard(py::module_& m);
void bind_image_set(py::module_& m);
void bind_moments(py::module_& m);
void bind_monitor_bank(py::module_& m);
void bind_reference(py::module_& m);
void bind_ring_buffer(py::module_& m);
void bind_run_length(py::module_& m);
void bind_side_by_side(py::module_& m);
void bind_signals(py::module_& m);
void bind_snapshot_pool(py::module_& m);
void bind_softmax_head(py::module_& m);
void bind_float_graph(py::module_& m);
void bind_fair_lock(py::module_& m);
void bind_weight_image(py::module_& m);
