/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::PRIMARY
}

/// Native callbacks (buffer mapping, work done) only run while the device is polled: wait for all submitted work.
pub(crate) fn drive_callbacks(device: &wgpu::Device) -> Result<(), String> {
    device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()).map_err(|error| error.to_string())
}
