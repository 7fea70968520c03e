#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "arguments.h"
#include "image_file.h"

/// What differs between programs that classify images.
struct Classifier {
  std::vector<int64_t> input_shape;  // of one image
  int64_t outputs;                   // numbers an image
  std::function<Image(const std::string& path)> read;
  std::function<void(const float* input, int64_t images, float* logits)> run;
};

/// `--name VALUE` options that classify() reads; --threads is for whoever makes the classifier.
const std::vector<std::string>& classify_options();
int thread_count(const Arguments& arguments);

/// Prints the five largest outputs of each image, as probabilities. The arguments are those of
/// classify.cpp: a model file, at least one image, options. Throws what `read` and `run` throw,
/// std::runtime_error and std::invalid_argument.
void classify(const Classifier& classifier, const Arguments& arguments);
