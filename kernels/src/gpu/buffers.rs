//! Buffers of a device: allocated, written, and subtracted from its counts when they go.

use std::rc::Rc;

use super::{Counts, Gpu, add};

/// A buffer that knows its size and subtracts it from the count of allocated bytes when dropped.
pub struct GpuBuffer {
    raw: wgpu::Buffer,
    counts: Rc<Counts>,
}

impl GpuBuffer {
    /// The buffer as wgpu has it.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.raw.size()
    }

    /// Binds the whole buffer.
    pub fn whole(&self) -> wgpu::BindingResource<'_> {
        self.raw.as_entire_binding()
    }

    /// Binds a part of the buffer. `offset_bytes` must be a multiple of 256.
    pub fn part(&self, offset_bytes: u64, size_bytes: u64) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.raw,
            offset: offset_bytes,
            size: wgpu::BufferSize::new(size_bytes),
        })
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        // The memory is freed now and not when a garbage collector runs, because a reload must find it free.
        self.raw.destroy();
        self.counts.allocated_bytes.set(self.counts.allocated_bytes.get().saturating_sub(self.raw.size()));
    }
}

impl Gpu {
    /// Allocates a buffer of `size_bytes`, rounded up to 4, zeroed by WebGPU. Call [`Gpu::check`] or use an error scope
    /// ([`Gpu::probe_memory`]) to learn of a failed allocation.
    pub fn buffer(&self, label: &str, size_bytes: u64, usage: wgpu::BufferUsages) -> GpuBuffer {
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: size_bytes.next_multiple_of(4).max(4),
            usage,
            mapped_at_creation: false,
        });
        add(&self.counts.buffers_created, 1);
        add(&self.counts.allocated_bytes, raw.size());
        GpuBuffer { raw, counts: Rc::clone(&self.counts) }
    }

    /// Allocates storage that kernels read and write, and that can be copied to and from.
    pub fn storage(&self, label: &str, size_bytes: u64) -> GpuBuffer {
        use wgpu::BufferUsages as Usage;
        self.buffer(label, size_bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// Allocates storage filled with `data`.
    pub fn storage_from<T: bytemuck::NoUninit>(&self, label: &str, data: &[T]) -> GpuBuffer {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.storage(label, bytes.len() as u64);
        self.write(&buffer, 0, bytes);
        buffer
    }

    /// Allocates a uniform buffer holding `value`.
    pub fn uniform<T: bytemuck::NoUninit>(&self, label: &str, value: &T) -> GpuBuffer {
        self.uniform_bytes(label, bytemuck::bytes_of(value))
    }

    /// Allocates a uniform buffer holding `bytes`.
    pub fn uniform_bytes(&self, label: &str, bytes: &[u8]) -> GpuBuffer {
        let buffer = self.buffer(label, bytes.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        self.write(&buffer, 0, bytes);
        buffer
    }

    /// Queues a small write (activations, parameters). `offset_bytes` must be a multiple of 4; a length that is not is
    /// padded with zeros.
    pub fn write(&self, buffer: &GpuBuffer, offset_bytes: u64, bytes: &[u8]) {
        let aligned = bytes.len() / 4 * 4;
        if aligned > 0 {
            self.queue.write_buffer(&buffer.raw, offset_bytes, &bytes[..aligned]);
        }
        if aligned < bytes.len() {
            let mut tail = [0u8; 4];
            tail[..bytes.len() - aligned].copy_from_slice(&bytes[aligned..]);
            self.queue.write_buffer(&buffer.raw, offset_bytes + aligned as u64, &tail);
        }
    }

    /// Allocates a buffer to copy results into and map.
    pub fn staging(&self, label: &str, size_bytes: u64) -> GpuBuffer {
        self.buffer(label, size_bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }
}
