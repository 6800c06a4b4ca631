//! Samples for a model's inputs, read one at a time from files of tensors, images, sound or text.
//!
//! Contract: everything that can be checked without running the model is checked when the samples are opened: names,
//! shapes, element types, values that are not numbers. A sample is one run of the model: a tensor per input, in the
//! order of the inputs.
