// Two things of libtorch that tch does not bind, for src/lib.rs. Nothing here throws: a null pointer or a false says
// that libtorch refused.

#include <cstdlib>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mm.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/custom_function.h>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// oneDNN keeps the kernel of every shape that it has met, about half a MiB each, and 1,024 of them unless it is told
// otherwise. Told while the program is loaded: nothing else reads the environment yet.
[[maybe_unused]] const bool told = [] {
#if !defined(_WIN32)
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", 0);
#endif
  return true;
}();

// `x weight^T + bias` by oneDNN, for float32 matrices in the memory of the CPU; strides may be any.
Tensor by_onednn(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  using Operator = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                          c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Operator>();
  return op.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// The same with its gradients. Of the backward pass the product that gives the gradient of `x` is oneDNN's too; that of
// a weight is what `at::linear` computes, to the bit, and lies in memory as the weight does. First derivatives alone.
struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->saved_data["is_transposed"] = weight.stride(0) == 1 && weight.stride(1) != 1;
    // What a gradient does not need is not kept: of a frozen block, no activation.
    ctx->save_for_backward({weight.requires_grad() ? x : Tensor(), x.requires_grad() ? weight : Tensor()});
    at::AutoDispatchBelowADInplaceOrView below;
    return by_onednn(x, weight, bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "a product by oneDNN has no second derivative");
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &dy = gradients[0];
    Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) {
      dx = by_onednn(dy, weight.t(), std::nullopt);
    }
    if (ctx->needs_input_grad(1)) {
      const bool is_transposed = ctx->saved_data["is_transposed"].toBool();
      dweight = is_transposed ? at::mm(x.t(), dy).t() : at::mm(dy.t(), x);
    }
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2)) {
      dbias = dy.sum(0);
    }
    return {dx, dweight, dbias};
  }
};

}  // namespace

extern "C" {

// Whether this libtorch was built with oneDNN.
bool irepair_has_onednn() { return at::hasMKLDNN(); }

// Whether this processor is one on which oneDNN multiplies matrices faster than MKL.
bool irepair_onednn_is_faster() {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_cpu_init();
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         irepair_has_onednn();
#else
  return false;
#endif
}

// `x weight^T + bias`, or null. `bias` may be null.
Tensor* irepair_linear(const Tensor* x, const Tensor* weight, const Tensor* bias) {
  try {
    return new Tensor(Linear::apply(*x, *weight, bias ? std::optional<Tensor>(*bias) : std::nullopt));
  } catch (...) {
    return nullptr;
  }
}

// What libtorch's allocator of CUDA device `index` has taken from the device and given to tensors: now and at most,
// in bytes. False where there is none.
bool irepair_device_memory(int index, int64_t* numbers) {
  try {
    auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(c10::DeviceType::CUDA));
    if (allocator == nullptr || !allocator->initialized()) {
      return false;
    }
    const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto& reserved = stats.reserved_bytes[0];
    const auto& allocated = stats.allocated_bytes[0];
    numbers[0] = reserved.current;
    numbers[1] = reserved.peak;
    numbers[2] = allocated.current;
    numbers[3] = allocated.peak;
    return true;
  } catch (...) {
    return false;
  }
}
}
