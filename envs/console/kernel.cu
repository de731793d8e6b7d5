// The console on a GPU: grids of threads around the functions of kernel_body.h.
#include "kernel_body.h"

using namespace console;

// A machine a thread, of the first `lanes` threads of each warp. It is one kernel for all work, since the
// whole console is compiled anew into each. Ten blocks to a multiprocessor leave each thread 96 registers:
// as few as the loop of instructions can do with before it moves some to memory.
extern "C" __global__ void __launch_bounds__(64, 10)
play_kernel(const Batch* batch, i64 work, i64 game, const i64* actions, const u8* mask, const i64* seeds, u8* results) {
#if defined(CONSOLE_SHARED_ENVS)
  extern __shared__ u64 memory[];      // an odd number of words of 64 bits for each machine: few bank conflicts
  constexpr u32 words = sizeof(Env) / 8 | 1;
  const u32 lanes = work == MAKE_READY ? WARP : batch->lanes;
  Env& env = *reinterpret_cast<Env*>(memory + (threadIdx.x / WARP * lanes + threadIdx.x % WARP) * words);
#else
  Env env;
#endif
  if (work == MAKE_READY) {
    const i32 index = i32(blockIdx.x * blockDim.x + threadIdx.x);
    if (index < i32(START_COUNT) * batch->ready_noops) make_ready(*batch, i32(game), index, env);
    return;
  }
  const Call call = {i32(work), i32(game), actions, mask, seeds, results};
  const i32 row = row_of_thread(*batch, blockIdx.x, threadIdx.x, blockDim.x);
  if (row >= 0) play_row(*batch, call, row, env);
}

// A block for each row.
extern "C" __global__ void __launch_bounds__(256) observe_kernel(const Batch* batch, u8* observations) {
  const i32 row = i32(blockIdx.x), thread = i32(threadIdx.x), threads = i32(blockDim.x);
  copy_ready_screens(*batch, row, thread, threads);
  __syncthreads();
  pool_row(*batch, row, thread, threads);
  __syncthreads();
  stack_row(*batch, row, observations, thread, threads);
}
