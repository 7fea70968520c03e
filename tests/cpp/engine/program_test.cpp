#include "engine/program.h"

#include <gtest/gtest.h>

#include <functional>

#include "engine/engine.h"
#include "random_network.h"

namespace ptqx::engine {
namespace {

using nlohmann::json;
using testing::ConvOptions;
using testing::Graph;
using testing::GraphBuilder;
using testing::Made;
using testing::Tensor;

Program read(const Graph& graph) { return read_program(Container::view(graph.bytes())); }

/// n1 quantize [4,8,8], n2 conv2d [8,8,8], n3 conv2d with n2 as residual, n4 max_pool2d, n5 avg_pool2d,
/// n6 add, n7 lookup, n8 cat, n9 slice, n10 flatten, n11 linear to float32.
Graph sample_graph() {
  GraphBuilder b({4, 8, 8});
  const Made n1 = b.quantize(b.input, {0.02F, 128});
  ConvOptions o{.padding = {1, 1, 1, 1}};
  o.activation = "relu";
  const Made n2 = b.conv2d(n1, o);
  o.residual = &n2;
  o.bits = 4;
  const Made n3 = b.conv2d(n2, o);
  const json window = {
      {"kernel_size", {2, 2}}, {"stride", {2, 2}}, {"padding", {0, 0}}, {"ceil_mode", false}};
  json max_window = window;
  max_window["dilation"] = {1, 1};
  const Made n4 = b.moved("max_pool2d", {n3}, {8, 4, 4}, max_window);
  const Made n5 = b.codes("avg_pool2d", {n3}, {8, 4, 4}, {0.5F, 10}, window);
  const Made n6 = b.codes("add", {n4, n5}, {8, 4, 4}, {0.5F, 10},
                          {{"activation", "clip"}, {"activation_args", {0.0, "inf"}}});
  b.graph.tensors["table"] = Tensor::of(DType::kU8, {256}, std::vector<uint8_t>(256, 9));
  const Made n7 = b.codes("lookup", {n6}, {8, 4, 4}, {0.5F, 10}, json::object(), {{"table", "table"}});
  const Made n8 = b.moved("cat", {n6, n7}, {16, 4, 4}, {{"dim", 1}});
  const Made n9 = b.moved("slice", {n8}, {12, 4, 4}, {{"dim", 1}, {"start", 2}, {"end", 14}});
  const Made n10 = b.moved("flatten", {n9}, {192}, {{"start_dim", 1}});
  return b.finish(b.linear(n10, {.out = 10, .float_output = true}));
}

json& node(Graph& graph, int number) { return graph.document["nodes"][static_cast<size_t>(number - 1)]; }
json& attrs(Graph& graph, int number) { return node(graph, number)["attrs"]; }

TEST(Program, read_shapes_are_inferred) {
  const Program program = read(sample_graph());
  ASSERT_EQ(program.nodes.size(), 12U);
  EXPECT_EQ(program.nodes[3].output.bytes(), 8 * 8 * 8U);
  EXPECT_EQ(program.nodes[4].output.h, 4);
  EXPECT_EQ(program.nodes[9].output.c, 12);
  EXPECT_EQ(program.nodes[11].output.bytes(), 40U);
  EXPECT_FALSE(program.nodes[11].output.spatial);
  ASSERT_EQ(program.outputs.size(), 1U);
  EXPECT_EQ(program.outputs[0].node, 11);
}

struct Violation {
  const char* name;
  std::function<void(Graph&)> change;
  const char* message;
};

std::ostream& operator<<(std::ostream& out, const Violation& violation) { return out << violation.name; }

Tensor f32(std::vector<float> values) {
  return Tensor::of(DType::kF32, {static_cast<int64_t>(values.size())}, values);
}
Tensor s32(std::vector<int32_t> values) {
  return Tensor::of(DType::kI32, {static_cast<int64_t>(values.size())}, values);
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const Violation kViolations[] = {
    {"not_an_object", [](Graph& g) { g.document = json::array(); }, "format"},
    {"version_2", [](Graph& g) { g.document["version"] = 2; }, "version 1"},
    {"no_nodes", [](Graph& g) { g.document.erase("nodes"); }, "nodes"},
    {"too_many_nodes", [](Graph& g) { g.document["nodes"] = json(std::vector<int>(10'001)); }, "10000 nodes"},
    {"node_is_number", [](Graph& g) { g.document["nodes"][0] = 1; }, "must be an object"},
    {"input_missing", [](Graph& g) { g.document.erase("input"); }, "input"},
    {"input_of_rank_2", [](Graph& g) { g.document["input"]["shape"] = {3, 4}; }, "shape"},
    {"input_negative", [](Graph& g) { g.document["input"]["shape"] = {-3, 4, 4}; }, "shape"},
    {"input_empty", [](Graph& g) { g.document["input"]["shape"] = {0, 4, 4}; }, "empty"},
    {"input_huge", [](Graph& g) { g.document["input"]["shape"] = {1 << 30, 1 << 30, 1 << 30}; }, "exceed"},
    {"output_unknown", [](Graph& g) { g.document["output"] = "nobody"; }, "'nobody'"},
    {"output_null", [](Graph& g) { g.document["output"] = nullptr; }, "must have an \"output\""},
    {"output_number", [](Graph& g) { g.document["output"] = 3; }, "output must be a name, or tuples"},
    {"output_set", [](Graph& g) { g.document["output"] = {{"set", {"n11"}}}; }, "output must be a name, or"},
    {"output_tuple_of_codes", [](Graph& g) { g.document["output"] = {{"tuple", {"n11", "n10"}}}; },
     "float32"},
    {"output_dict_without_key", [](Graph& g) { g.document["output"] = {{"dict", {"n11"}}}; },
     "output must be a name, or"},
    {"output_empty_list", [](Graph& g) { g.document["output"] = {{"list", json::array()}}; },
     "must have an \"output\""},
    {"output_deep",
     [](Graph& g) {
       for (int i = 0; i < 9; ++i) g.document["output"] = {{"list", {g.document["output"]}}};
     },
     "8 deep"},
    {"outputs_too_many",
     [](Graph& g) { g.document["output"] = {{"list", json(std::vector<std::string>(1001, "n11"))}}; },
     "at most 1000 outputs"},
    {"output_is_codes", [](Graph& g) { g.document["output"] = "n10"; }, "float32"},
    {"op_unknown", [](Graph& g) { node(g, 2)["op"] = "einsum"; },
     "the engine does not run 'einsum'; use the integer model"},
    {"name_twice", [](Graph& g) { node(g, 2)["name"] = "n1"; }, "two nodes 'n1'"},
    {"name_missing", [](Graph& g) { node(g, 2).erase("name"); }, "\"name\""},
    {"input_later", [](Graph& g) { node(g, 2)["inputs"] = {"n3"}; }, "no earlier node"},
    {"input_itself", [](Graph& g) { node(g, 2)["inputs"] = {"n2"}; }, "no earlier node"},
    {"inputs_too_few", [](Graph& g) { node(g, 6)["inputs"] = {"n4"}; }, "2 to 2 names"},
    {"inputs_too_many", [](Graph& g) { node(g, 4)["inputs"] = {"n3", "n3"}; }, "1 to 1 names"},
    {"inputs_are_numbers", [](Graph& g) { node(g, 4)["inputs"] = {3}; }, "names"},
    {"input_is_float", [](Graph& g) { node(g, 2)["inputs"] = {"input"}; }, "codes"},
    {"output_missing", [](Graph& g) { node(g, 2).erase("output"); }, "output"},
    {"output_dtype_unknown", [](Graph& g) { node(g, 2)["output"]["dtype"] = "int4"; }, "dtype"},
    {"output_scale_unknown", [](Graph& g) { node(g, 2)["output"]["scale"] = "nothing"; }, "'nothing'"},
    {"output_scale_is_int", [](Graph& g) { g.tensors["n2.scale"] = s32({1}); }, "one element of F32"},
    {"output_scale_of_two", [](Graph& g) { g.tensors["n2.scale"] = f32({1, 1}); }, "one element"},
    {"output_scale_zero", [](Graph& g) { g.tensors["n2.scale"] = f32({0}); }, "2^-64"},
    {"output_scale_negative", [](Graph& g) { g.tensors["n2.scale"] = f32({-1}); }, "2^-64"},
    {"output_scale_nan", [](Graph& g) { g.tensors["n2.scale"] = f32({kNan}); }, "2^-64"},
    {"output_scale_infinite", [](Graph& g) { g.tensors["n2.scale"] = f32({INFINITY}); }, "2^-64"},
    {"output_scale_tiny", [](Graph& g) { g.tensors["n2.scale"] = f32({0x1p-65F}); }, "2^-64"},
    {"zero_point_below_qmin", [](Graph& g) { g.tensors["n2.zero_point"] = s32({-1}); }, "zero_point"},
    {"zero_point_above_qmax", [](Graph& g) { g.tensors["n2.zero_point"] = s32({256}); }, "zero_point"},
    {"qmin_negative", [](Graph& g) { node(g, 2)["output"]["qmin"] = -1; }, "qmin"},
    {"qmax_above_255", [](Graph& g) { node(g, 2)["output"]["qmax"] = 256; }, "qmax"},
    {"qmin_is_qmax", [](Graph& g) { node(g, 2)["output"]["qmin"] = 255; }, "qmin < qmax"},
    {"attrs_are_array", [](Graph& g) { node(g, 2)["attrs"] = json::array(); }, "objects"},
    {"attribute_unknown", [](Graph& g) { attrs(g, 2)["transposed"] = true; },
     "unknown attribute 'transposed'"},
    {"role_unknown", [](Graph& g) { node(g, 2)["tensors"]["mask"] = "table"; }, "unknown tensor role 'mask'"},
    {"stride_zero", [](Graph& g) { attrs(g, 2)["stride"] = {0, 1}; },
     "stride must be 2 whole numbers from 1"},
    {"stride_of_three", [](Graph& g) { attrs(g, 2)["stride"] = {1, 1, 1}; }, "stride"},
    {"stride_fraction", [](Graph& g) { attrs(g, 2)["stride"] = {1.5, 1}; }, "stride"},
    {"padding_negative", [](Graph& g) { attrs(g, 2)["padding"] = {-1, 0, 0, 0}; }, "padding"},
    {"padding_huge", [](Graph& g) { attrs(g, 2)["padding"] = {1 << 20, 0, 0, 0}; }, "padding"},
    {"padding_makes_output_huge",
     [](Graph& g) { attrs(g, 2)["padding"] = std::vector<int>(4, (1 << 20) - 1); }, "exceed"},
    {"dilation_above_int64", [](Graph& g) { attrs(g, 2)["dilation"] = {~uint64_t{0}, uint64_t{1}}; },
     "dilation"},
    {"kernel_larger_than_input", [](Graph& g) { attrs(g, 2)["dilation"] = {5, 5}; },
     "larger than the padded input"},
    {"groups_do_not_divide", [](Graph& g) { attrs(g, 2)["groups"] = 3; }, "groups must divide"},
    {"groups_do_not_fit_weight", [](Graph& g) { attrs(g, 2)["groups"] = 2; }, "weight_shape does not fit"},
    {"weight_shape_empty", [](Graph& g) { attrs(g, 2)["weight_shape"] = {0, 4, 3, 3}; }, "weight_shape"},
    {"weight_shape_huge", [](Graph& g) { attrs(g, 2)["weight_shape"] = {1 << 30, 4, 1 << 20, 1 << 20}; },
     "padded input"},
    {"weight_shape_many_channels", [](Graph& g) { attrs(g, 2)["weight_shape"] = {1 << 30, 4, 3, 3}; },
     "too large"},
    {"weight_shape_not_the_tensors", [](Graph& g) { attrs(g, 2)["weight_shape"] = {16, 4, 3, 3}; },
     "weight must be I8 [16, 4, 3, 3]"},
    {"weight_shape_more_than_packed", [](Graph& g) { attrs(g, 3)["weight_shape"] = {1 << 20, 8, 3, 3}; },
     "weight must be U8"},
    {"weight_bits_9", [](Graph& g) { attrs(g, 2)["weight_bits"] = 9; }, "weight_bits"},
    {"weight_bits_0", [](Graph& g) { attrs(g, 2)["weight_bits"] = 0; }, "weight_bits"},
    {"weight_is_not_of_5_bits", [](Graph& g) { attrs(g, 2)["weight_bits"] = 5; }, "weight"},
    {"weight_is_not_of_3_bits", [](Graph& g) { attrs(g, 3)["weight_bits"] = 3; }, "weight"},
    {"weight_levels_of_eight_bits",
     [](Graph& g) {
       g.tensors["levels"] = Tensor::of(DType::kI8, {1, 256}, std::vector<int8_t>(256, 1));
       node(g, 3)["tensors"]["weight_levels"] = "levels";
     },
     "weight_levels must be I8 [8, 16]"},
    {"weight_missing", [](Graph& g) { node(g, 2)["tensors"].erase("weight"); }, "weight is missing"},
    {"weight_scale_missing", [](Graph& g) { node(g, 2)["tensors"].erase("weight_scale"); },
     "weight_scale is missing"},
    {"weight_scale_of_two", [](Graph& g) { g.tensors["w1.scale"] = f32({1, 1}); },
     "weight_scale must be F32 [8]"},
    {"weight_scale_nan", [](Graph& g) { g.tensors["w1.scale"] = f32({kNan}); }, "weight_scale"},
    {"weight_scale_zero", [](Graph& g) { g.tensors["w1.scale"] = f32({0}); }, "weight_scale"},
    {"weight_scale_makes_multiplier_infinite",
     [](Graph& g) {
       g.tensors["w1.scale"] = f32({3e38F});
       g.tensors["n2.scale"] = f32({1e-10F});
     },
     "overflows float32"},
    {"bias_of_two", [](Graph& g) { g.tensors["w1.bias"] = s32({1, 1}); }, "bias must be I32 [8]"},
    {"bias_nan", [](Graph& g) { g.tensors["w1.bias"] = f32(std::vector<float>(8, kNan)); },
     "bias must be finite"},
    {"bias_overflows_accumulator",
     [](Graph& g) { g.tensors["w1.bias"] = s32(std::vector<int32_t>(8, INT32_MIN)); }, "overflow 32 bits"},
    {"weight_zero_point_out_of_range",
     [](Graph& g) {
       g.tensors["z"] = s32({128});
       node(g, 2)["tensors"]["weight_zero_point"] = "z";
     },
     "weight_zero_point"},
    {"group_size_not_multiple_of_4", [](Graph& g) { attrs(g, 2)["group_size"] = 3; }, "group_size"},
    {"group_size_with_flat_scale", [](Graph& g) { attrs(g, 2)["group_size"] = 4; },
     "weight_scale must be F32 [8, 1]"},
    {"activation_unknown", [](Graph& g) { attrs(g, 2)["activation"] = "swish"; },
     "unknown activation 'swish'"},
    {"activation_args_too_few", [](Graph& g) { attrs(g, 2)["activation_args"] = {0.0}; },
     "takes 2 activation_args"},
    {"activation_args_reversed", [](Graph& g) { attrs(g, 2)["activation_args"] = {1.0, 0.0}; },
     "low <= high"},
    {"activation_args_too_large", [](Graph& g) { attrs(g, 2)["activation_args"] = {0.0, 1e300}; }, "float32"},
    {"activation_args_text", [](Graph& g) { attrs(g, 2)["activation_args"] = {0.0, "nan"}; }, "float32"},
    {"prelu_without_slopes",
     [](Graph& g) {
       attrs(g, 2)["activation"] = "prelu";
       attrs(g, 2)["activation_args"] = json::array();
     },
     "slopes is missing"},
    {"residual_of_other_shape", [](Graph& g) { node(g, 3)["inputs"] = {"n2", "n1"}; },
     "residual must have the output's shape"},
    {"residual_is_float", [](Graph& g) { node(g, 3)["inputs"] = {"n2", "input"}; }, "codes"},
    {"linear_on_map", [](Graph& g) { node(g, 11)["inputs"] = {"n9"}; }, "flatten it first"},
    {"linear_features_wrong", [](Graph& g) { attrs(g, 9)["end"] = 13; }, "features"},
    {"pool_changes_scale", [](Graph& g) { node(g, 4)["output"]["scale"] = "n5.scale"; }, "moves codes"},
    {"pool_narrows_range",
     [](Graph& g) {
       node(g, 4)["output"]["qmax"] = 254;
       g.tensors["n4.zero_point"] = s32({0});
       g.tensors["n3.zero_point"] = s32({0});
     },
     "contain its inputs'"},
    {"pool_kernel_zero", [](Graph& g) { attrs(g, 4)["kernel_size"] = {0, 2}; }, "kernel_size"},
    {"pool_kernel_too_large", [](Graph& g) { attrs(g, 4)["kernel_size"] = {99, 99}; },
     "larger than the padded input"},
    {"pool_padding_over_half", [](Graph& g) { attrs(g, 4)["padding"] = {2, 2}; }, "half the kernel"},
    {"pool_window_on_padding",
     [](Graph& g) {
       attrs(g, 4)["dilation"] = {16, 16};
       attrs(g, 4)["padding"] = {8, 8};
     },
     "wholly on padding"},
    {"pool_ceil_mode_is_number", [](Graph& g) { attrs(g, 4)["ceil_mode"] = 1; }, "true or false"},
    {"add_of_other_shape", [](Graph& g) { node(g, 6)["inputs"] = {"n4", "n3"}; }, "one shape"},
    {"add_of_float_and_codes", [](Graph& g) { node(g, 6)["output"] = {{"dtype", "float32"}}; },
     "all be uint8 or all float32"},
    {"lookup_table_short",
     [](Graph& g) { g.tensors["table"] = Tensor::of(DType::kU8, {255}, std::vector<uint8_t>(255)); },
     "table must be U8 [256]"},
    {"lookup_table_outside_range", [](Graph& g) { node(g, 7)["output"]["qmin"] = 10; }, "table holds a code"},
    {"cat_of_other_heights", [](Graph& g) { node(g, 8)["inputs"] = {"n6", "n3"}; }, ""},
    {"cat_of_other_channels",
     [](Graph& g) {
       attrs(g, 8)["dim"] = 3;
       node(g, 8)["inputs"] = {"n9", "n6"};
       std::swap(node(g, 8), node(g, 9));
       node(g, 8)["inputs"] = {"n6"};
       attrs(g, 8)["end"] = 7;
     },
     "agree in every extent but that of dim"},
    {"cat_dim_4", [](Graph& g) { attrs(g, 8)["dim"] = 4; }, "dim"},
    {"slice_beyond_channels", [](Graph& g) { attrs(g, 9)["end"] = 17; }, "end"},
    {"tuning_no_object", [](Graph& g) { g.document["tuning"] = 3; }, "machine"},
    {"tuning_no_steps", [](Graph& g) { g.document["tuning"] = {{"machine", "m"}}; }, "steps"},
    {"tuning_step_no_object", [](Graph& g) { g.document["tuning"] = {{"machine", "m"}, {"steps", {1}}}; },
     "samples"},
    {"tuning_negative_threads",
     [](Graph& g) {
       g.document["tuning"] = {
           {"machine", "m"},
           {"steps", {{{"name", "a"}, {"samples", 1}, {"threads", -1}, {"strategy", "taps"}}}}};
     },
     "threads"},
    {"tuning_no_strategy",
     [](Graph& g) {
       g.document["tuning"] = {{"machine", "m"},
                               {"steps", {{{"name", "a"}, {"samples", 1}, {"threads", 1}}}}};
     },
     "strategy"},
    {"slice_empty", [](Graph& g) { attrs(g, 9)["end"] = 2; }, "end"},
};

class ProgramViolation : public ::testing::TestWithParam<Violation> {};
TEST_P(ProgramViolation, IsOneClearError) {
  Graph graph = sample_graph();
  ASSERT_NO_THROW(read(graph));
  GetParam().change(graph);
  try {
    read(graph);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}
INSTANTIATE_TEST_SUITE_P(Program, ProgramViolation, ::testing::ValuesIn(kViolations),
                         [](const auto& info) { return std::string(info.param.name); });

/// Each change of the graph is refused by an Error that says so.
template <size_t count>
void expect_refused(const std::function<Graph()>& sample, const Violation (&violations)[count]) {
  for (const Violation& violation : violations) {
    SCOPED_TRACE(violation.name);
    Graph graph = sample();
    ASSERT_NO_THROW(read(graph));
    violation.change(graph);
    try {
      read(graph);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(violation.message), std::string::npos) << error.what();
    }
  }
}

TEST(Program, read_cat_takes_any_dimension) {
  const auto cat_of = [](const std::vector<int64_t>& shape, int64_t dim) {
    GraphBuilder b(shape);
    std::vector<int64_t> result = shape;
    if (dim <= static_cast<int64_t>(shape.size())) result[static_cast<size_t>(dim - 1)] *= 2;
    const Value y =
        read(b.finish(b.reals("cat", {b.input, b.input}, result, {{"dim", dim}}))).nodes[1].output;
    return std::vector<int64_t>{y.spatial, y.sequence, y.c, y.h, y.w};
  };
  EXPECT_EQ(cat_of({3, 5, 7}, 1), (std::vector<int64_t>{1, 0, 6, 5, 7}));
  EXPECT_EQ(cat_of({3, 5, 7}, 2), (std::vector<int64_t>{1, 0, 3, 10, 7}));
  EXPECT_EQ(cat_of({3, 5, 7}, 3), (std::vector<int64_t>{1, 0, 3, 5, 14}));
  EXPECT_EQ(cat_of({3, 7}, 1), (std::vector<int64_t>{1, 1, 6, 1, 7}));
  EXPECT_EQ(cat_of({3, 7}, 2), (std::vector<int64_t>{1, 1, 3, 1, 14}));
  EXPECT_EQ(cat_of({3}, 1), (std::vector<int64_t>{0, 0, 6, 1, 1}));
  EXPECT_THROW(cat_of({3, 7}, 3), Error);
}

TEST(Program, read_constant_names_what_is_wrong) {
  const auto sample = [] {
    GraphBuilder b({3, 2, 2});
    const Made values = b.constant({3, 2, 2});
    return b.finish(b.reals("add", {b.input, values}, {3, 2, 2}, {{"activation", "none"}}));
  };
  const Violation violations[] = {
      {"other_shape", [](Graph& g) { g.tensors.begin()->second.shape = {3, 4, 1}; }, "one shape"},
      {"four_dimensions", [](Graph& g) { g.tensors.begin()->second.shape = {3, 2, 2, 1}; },
       "one to three dimensions"},
      {"not_finite",
       [](Graph& g) {
         std::vector<float> values(12, 0.5F);
         values[7] = std::numeric_limits<float>::infinity();
         g.tensors.begin()->second = Tensor::of(DType::kF32, {3, 2, 2}, values);
       },
       "values must be finite"},
      {"no_values", [](Graph& g) { node(g, 1).erase("tensors"); }, "values is missing"},
      {"codes",
       [](Graph& g) {
         g.tensors["scale"] = f32({0.1F});
         g.tensors["zero"] = Tensor::of(DType::kI32, {1}, std::vector<int32_t>{0});
         node(g, 1)["output"] = {
             {"dtype", "uint8"}, {"scale", "scale"}, {"zero_point", "zero"}, {"qmin", 0}, {"qmax", 255}};
       },
       "gives float32"},
  };
  expect_refused(sample, violations);
}

TEST(Program, read_layer_norm_names_what_is_wrong) {
  const auto sample = [] {
    GraphBuilder b({3, 2, 2});
    return b.finish(b.dequantize(b.layer_norm(b.input, testing::Qparams{0.05F, 128})));
  };
  Graph correct = sample();
  EXPECT_EQ(read(correct).nodes[1].output.bytes(), 12U);
  const Violation violations[] = {
      {"eps_missing", [](Graph& g) { attrs(g, 1).erase("eps"); }, "the attribute eps is missing"},
      {"eps_zero", [](Graph& g) { attrs(g, 1)["eps"] = 0.0; }, "eps must be a positive number"},
      {"eps_text", [](Graph& g) { attrs(g, 1)["eps"] = "inf"; }, "eps must be a positive number"},
      {"weight_short", [](Graph& g) { g.tensors["weightinput"] = f32({1, 2}); }, "weight must be F32 [3]"},
      {"bias_one", [](Graph& g) { g.tensors["biasinput"] = f32({1}); }, "bias must be F32 [3]"},
      {"weight_nan", [](Graph& g) { g.tensors["weightinput"] = f32({1, kNan, 1}); }, "weight must be finite"},
      {"of_codes",
       [](Graph& g) {
         node(g, 2) = node(g, 1);
         node(g, 2)["name"] = "n2";
         node(g, 2)["inputs"] = {"n1"};
       },
       "takes float32"},
  };
  expect_refused(sample, violations);
}

TEST(Program, read_group_norm_takes_images_of_real_values_in_whole_groups) {
  const auto of = [](std::vector<int64_t> shape, int64_t groups) {
    GraphBuilder b(std::move(shape));
    return b.finish(b.group_norm(b.input, groups, std::nullopt));
  };
  EXPECT_EQ(read(of({6, 3, 2}, 3)).nodes[1].output.w, 2);
  EXPECT_THROW(read(of({6, 3, 2}, 4)), Error);
  EXPECT_THROW(read(of({6, 3, 2}, 0)), Error);
  EXPECT_THROW(read(of({6, 3, 2}, 7)), Error);
  EXPECT_THROW(read(of({6}, 3)), Error);
}

/// Reads a network of one `op` with these attributes on [4, 6, 6].
Value moved(const char* op, const json& attributes) {
  GraphBuilder b({4, 6, 6});
  return read(b.finish(b.reals(op, {b.input}, {}, attributes))).nodes[1].output;
}

TEST(Program, read_pad_crops_with_negative_numbers) {
  const Value y = moved("pad", {{"padding", {-5, 3, 1, -2}}});
  EXPECT_EQ(y.h, 2);
  EXPECT_EQ(y.w, 7);
  constexpr int64_t kMost = (int64_t{1} << 20) - 1;
  for (const std::vector<int64_t>& padding : {std::vector<int64_t>{-3, 0, -3, 0},
                                              {0, -6, 0, 9},
                                              {0, -kMost - 1, 0, kMost},
                                              {-kMost, 0, kMost, 0}}) {
    EXPECT_THROW(moved("pad", {{"padding", padding}}), Error);
  }
}

TEST(Program, read_pad_takes_from_the_image_no_more_than_there_is) {
  const auto padded = [](const char* mode, std::vector<int64_t> padding) {
    return moved("pad", {{"padding", std::move(padding)}, {"mode", mode}});
  };
  EXPECT_EQ(padded("reflect", {5, 0, 0, 5}).h, 11);
  EXPECT_EQ(padded("circular", {6, 6, 6, 6}).w, 18);
  EXPECT_EQ(padded("replicate", {9, 0, 0, 0}).h, 15);
  EXPECT_THROW(padded("reflect", {6, 0, 0, 0}), Error);
  EXPECT_THROW(padded("circular", {0, 0, 0, 7}), Error);
  EXPECT_THROW(padded("replicate", {0, -1, 0, 0}), Error);
  EXPECT_THROW(padded("edge", {1, 1, 1, 1}), Error);
}

TEST(Program, read_takes_sequences_as_images_of_one_row) {
  GraphBuilder b({4, 6});
  const Program program = read(b.finish(b.reals("reshape", {b.input}, {}, {{"sample_shape", {2, 12}}})));
  EXPECT_TRUE(program.nodes[0].output.sequence);
  EXPECT_EQ(program.nodes[0].output.w, 6);
  EXPECT_EQ(program.nodes[1].output.c, 2);
  EXPECT_EQ(program.nodes[1].output.w, 12);
}

TEST(Program, read_pixel_shuffles_take_factors_that_divide) {
  const Value up = moved("pixel_shuffle", {{"upscale_factor", 2}});
  EXPECT_EQ((std::vector{up.c, up.h, up.w}), (std::vector<int64_t>{1, 12, 12}));
  const Value down = moved("pixel_unshuffle", {{"downscale_factor", 3}});
  EXPECT_EQ((std::vector{down.c, down.h, down.w}), (std::vector<int64_t>{36, 2, 2}));
  for (const int64_t factor : {int64_t{0}, int64_t{-2}, int64_t{4}, int64_t{1} << 20, int64_t{1} << 40}) {
    EXPECT_THROW(moved("pixel_shuffle", {{"upscale_factor", factor}}), Error);
    EXPECT_THROW(moved("pixel_unshuffle", {{"downscale_factor", factor}}), Error);
  }
}

TEST(Program, read_upsample_bilinear2d_takes_a_size_within_bounds) {
  const Value y = moved("upsample_bilinear2d", {{"size", {2, 9}}, {"align_corners", true}});
  EXPECT_EQ((std::vector{y.c, y.h, y.w}), (std::vector<int64_t>{4, 2, 9}));
  const json wrong[] = {{{"align_corners", true}},
                        {{"size", {0, 9}}},
                        {{"size", {2, -9}}},
                        {{"size", {1 << 20, 1 << 20}}},
                        {{"size", {1 << 21, 1}}},
                        {{"size", {2, 9, 9}}},
                        {{"size", {2, 9}}, {"align_corners", 1}}};
  for (const json& attributes : wrong) EXPECT_THROW(moved("upsample_bilinear2d", attributes), Error);
  GraphBuilder b({4, 6, 6});
  const Made x = b.quantize(b.input, {0.1F, 7});
  const Made other_scale = b.codes("upsample_bilinear2d", {x}, {4, 9, 9}, {0.2F, 7}, {{"size", {9, 9}}});
  EXPECT_THROW(read(b.finish(b.dequantize(other_scale))), Error);
}

TEST(Program, read_softmax_takes_features_sequences_and_images) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{7}, {7, 5}, {7, 3, 2}}) {
    for (const bool log : {false, true}) {
      GraphBuilder b(shape);
      const Program program = read(b.finish(b.softmax(b.input, std::nullopt, log)));
      EXPECT_TRUE(program.nodes[1].output.same_shape(program.nodes[0].output));
      EXPECT_TRUE(program.nodes[1].output.is_float);
    }
    GraphBuilder b(shape);
    const Program program = read(b.finish(b.dequantize(b.softmax(b.input, testing::Qparams{0.01F, 0}))));
    EXPECT_TRUE(program.nodes[1].output.same_shape(program.nodes[0].output));
    EXPECT_FALSE(program.nodes[1].output.is_float);
  }
}

TEST(Program, read_softmax_names_what_is_wrong) {
  const auto sample = [] {
    GraphBuilder b({3, 2, 2});
    const Made real = b.dequantize(b.quantize(b.input, {0.1F, 0}));
    return b.finish(b.dequantize(b.softmax(real, testing::Qparams{0.01F, 0})));
  };
  const Violation violations[] = {
      {"of_codes", [](Graph& g) { node(g, 3)["inputs"] = {"n1"}; }, "takes float32"},
      {"log_to_codes", [](Graph& g) { attrs(g, 3)["log"] = true; }, "its logarithm is float32"},
      {"log_number", [](Graph& g) { attrs(g, 3)["log"] = 1; }, "log must be true or false"},
      {"two_inputs", [](Graph& g) { node(g, 3)["inputs"] = {"n2", "n2"}; }, "1 to 1 names"},
      {"over_rows", [](Graph& g) { attrs(g, 3)["dim"] = 2; }, "unknown attribute 'dim'"},
  };
  expect_refused(sample, violations);
}

TEST(Program, read_matmul_gives_pixels_of_one_as_channels_of_the_other) {
  for (const bool real : {false, true}) {
    GraphBuilder b({5, 3, 2});
    const Made x = b.quantize(b.input, {0.1F, 7});
    const Made wide = b.moved("pad", {x}, {5, 3, 6}, {{"padding", {0, 1, 0, 3}}});
    const Made y = b.matmul(x, wide, 0.5, real ? std::nullopt : std::optional(testing::Qparams{0.4F, 128}));
    const Program program = read(b.finish(real ? y : b.dequantize(y)));
    const Value& output = program.nodes[3].output;
    EXPECT_EQ((std::vector{output.c, output.h, output.w}), (std::vector<int64_t>{6, 3, 2}));
    EXPECT_TRUE(output.spatial && !output.sequence);
    EXPECT_EQ(output.is_float, real);
    // In this order and in float32: the file's numbers are those of the operator.
    const float multiplier = 0.1F * 0.1F * 0.5F / (real ? 1.0F : 0.4F);
    EXPECT_EQ(std::get<Matmul>(program.nodes[3].operation).multiplier, multiplier);
  }
}

TEST(Program, read_matmul_names_what_is_wrong) {
  // n1 codes [3,2,4], n2 the same of another scale, n3 their product [4,2,4], n4 real values.
  const auto sample = [] {
    GraphBuilder b({3, 2, 4});
    const Made n1 = b.quantize(b.input, {0.1F, 7}), n2 = b.quantize(b.input, {0.2F, 9});
    return b.finish(b.dequantize(b.matmul(n1, n2, 0.5, testing::Qparams{0.4F, 128})));
  };
  const auto moved_second = [](const char* op, const json& attributes) {
    return [op, attributes](Graph& g) {
      json moved = node(g, 2);
      moved["name"] = "moved";
      moved["op"] = op;
      moved["inputs"] = {"n2"};
      moved["attrs"] = attributes;
      g.document["nodes"].insert(g.document["nodes"].begin() + 2, moved);
      node(g, 4)["inputs"] = {"n1", "moved"};
    };
  };
  const Violation violations[] = {
      {"first_real", [](Graph& g) { node(g, 3)["inputs"] = {"input", "n2"}; }, "must be codes"},
      {"second_real", [](Graph& g) { node(g, 3)["inputs"] = {"n1", "input"}; }, "must be codes"},
      {"one_input", [](Graph& g) { node(g, 3)["inputs"] = {"n1"}; }, "2 to 2 names"},
      {"three_inputs", [](Graph& g) { node(g, 3)["inputs"] = {"n1", "n2", "n2"}; }, "2 to 2 names"},
      {"features", moved_second("flatten", {{"start_dim", 1}}), "shape [channels, height, width]"},
      {"sequence", moved_second("reshape", {{"sample_shape", {3, 8}}}), "shape [channels, height, width]"},
      {"features_both", [](Graph& g) { g.document["input"]["shape"] = {24}; },
       "shape [channels, height, width]"},
      {"sequences", [](Graph& g) { g.document["input"]["shape"] = {3, 8}; },
       "shape [channels, height, width]"},
      {"other_channels", moved_second("slice", {{"dim", 1}, {"start", 0}, {"end", 2}}),
       "one number of channels, and of rows"},
      {"other_rows", moved_second("pad", {{"padding", {1, 0, 0, 0}}}), "one number of channels, and of rows"},
      {"too_deep", [](Graph& g) { g.document["input"]["shape"] = {255 * 130, 1, 1}; }, "too many channels"},
      {"factor_missing", [](Graph& g) { attrs(g, 3).erase("factor"); }, "the attribute factor is missing"},
      {"factor_zero", [](Graph& g) { attrs(g, 3)["factor"] = 0; }, "factor must be a positive number"},
      {"factor_negative", [](Graph& g) { attrs(g, 3)["factor"] = -0.5; }, "factor must be a positive number"},
      {"factor_text", [](Graph& g) { attrs(g, 3)["factor"] = "inf"; }, "factor must be a positive number"},
      {"factor_no_float32", [](Graph& g) { attrs(g, 3)["factor"] = 1e300; }, "overflow float32"},
      {"scales_huge",
       [](Graph& g) {
         g.tensors["n1.scale"] = f32({1e20F});
         g.tensors["n2.scale"] = f32({1e20F});
       },
       "overflow float32"},
      {"output_scale_tiny",
       [](Graph& g) {
         g.tensors["n1.scale"] = f32({1e21F});
         g.tensors["n3.scale"] = f32({0x1p-64F});
       },
       "overflow float32"},
      {"output_huge", [](Graph& g) { g.document["input"]["shape"] = {1, 1, 1 << 20}; }, "exceed"},
      {"transposed", [](Graph& g) { attrs(g, 3)["transposed"] = true; }, "unknown attribute 'transposed'"},
      {"weight",
       [](Graph& g) {
         g.tensors["weight"] = f32({1});
         node(g, 3)["tensors"]["weight"] = "weight";
       },
       "unknown tensor role 'weight'"},
  };
  expect_refused(sample, violations);
}

TEST(Program, read_matmul_bounds_its_sums_exactly) {
  const auto of_depth = [](int64_t depth) {
    GraphBuilder b({depth, 1, 1});
    const Made x = b.quantize(b.input, {0.1F, 0});
    return b.finish(b.matmul(x, x, 1.0, std::nullopt));
  };
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / (255 * 255);
  EXPECT_NO_THROW(read(of_depth(kMost)));
  EXPECT_THROW(read(of_depth(kMost + 1)), Error);
}

TEST(Program, read_activation_takes_functions_of_real_values_with_their_numbers) {
  const auto function_of = [](const std::string& name, nlohmann::json args) {
    GraphBuilder b({3, 2, 2});
    return b.finish(
        b.reals("activation", {b.input}, {3, 2, 2}, {{"activation", name}, {"activation_args", args}}));
  };
  const auto none = nlohmann::json::array();
  EXPECT_EQ(read(function_of("sigmoid", none)).nodes[1].output.h, 2);
  EXPECT_NO_THROW(read(function_of("divide_by_scalar", {0.5})));
  EXPECT_THROW(read(function_of("sigmoid", {0.5})), Error);
  EXPECT_THROW(read(function_of("add_scalar", none)), Error);
  EXPECT_THROW(read(function_of("add_scalar", {"inf"})), Error);
  EXPECT_THROW(read(function_of("divide_by_scalar", {0.0})), Error);
  EXPECT_THROW(read(function_of("elu", none)), Error);
}

TEST(Program, read_duplicate_key_or_deep_nesting_in_the_graph_throws) {
  const Graph graph = sample_graph();
  const auto read_text = [&](const std::string& text) {
    read_program(Container::view(container_bytes(text, graph.views())));
  };
  EXPECT_NO_THROW(read_text(graph.document.dump()));
  std::string text = graph.document.dump();
  text.insert(1, "\"version\":1,");
  EXPECT_THROW(read_text(text), Error);
  EXPECT_THROW(read_text(std::string(100'000, '[')), Error);
  EXPECT_THROW(read_text(""), Error);
  EXPECT_THROW(read_text("null"), Error);
}

TEST(Program, read_accumulator_bound_is_exact) {
  // One weight of 127 on an input whose codes reach 255 away from zero: 127 * 255 + |bias| < 2^31.
  GraphBuilder b({1});
  const Made x = b.quantize(b.input, {1.0F, 0});
  Graph graph = b.finish(b.linear(x, {.out = 1, .float_output = true}));
  graph.tensors["w1.weight"] = Tensor::of(DType::kI8, {1, 1}, std::vector<int8_t>{127});
  constexpr int32_t kLargest = std::numeric_limits<int32_t>::max() - 127 * 255;
  graph.tensors["w1.bias"] = s32({kLargest});
  EXPECT_NO_THROW(read(graph));
  graph.tensors["w1.bias"] = s32({kLargest + 1});
  EXPECT_THROW(read(graph), Error);
}

}  // namespace
}  // namespace ptqx::engine
