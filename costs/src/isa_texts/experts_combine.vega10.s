BB0:
	s_mov_b32 s8, s3                                            ; be880003
	s_mov_b32 s9, s4                                            ; be890004
	s_movk_i32 s3, 0x8000                                       ; b0038000
	s_load_dwordx4 s[12:15], s[2:3], 0x70                       ; c00a0301 00000070
	s_load_dwordx4 s[16:19], s[2:3], 0x10                       ; c00a0401 00000010
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	buffer_load_dword v3, off, s[12:15], 0 glc                  ; e0504000 80030380
	s_load_dword s22, s[8:9], 0x8                               ; c0020584 00000008
	s_load_dwordx2 s[20:21], s[8:9], 0x0                        ; c0060504 00000000
	v_lshl_add_u32 v1, s5, 6, v0                                ; d1fd0001 04010c05
	v_min_u32_e32 v2, 63, v0                                    ; 1c0400bf
	v_lshlrev_b32_e32 v2, 2, v2                                 ; 24040482
	v_mov_b32_e32 v4, 0                                         ; 7e080280
	ds_write_b32 v2, v4                                         ; d81a0000 00000402
	s_buffer_load_dword s4, s[16:19], 0x8                       ; c0220108 00000008
	s_waitcnt vmcnt(0)                                          ; bf8c3f70
	v_readfirstlane_b32 s0, v3                                  ; 7e000503
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_cmp_ge_u32 s4, s0                                         ; bf090004
	s_cbranch_scc1 BB2                                          ; bf850005
BB1:
	s_buffer_load_dword s0, s[16:19], 0x0                       ; c0220008 00000000
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	v_cmp_gt_u32_e32 vcc, s0, v1                                ; 7d980200
	s_branch BB3                                                ; bf820001
BB2:
	s_mov_b64 vcc, 0                                            ; beea0180
BB3:
	s_mov_b32 s0, src_scc                                       ; be8000fd
	s_and_saveexec_b64 s[8:9], vcc                              ; be88206a
	s_cbranch_execz BB23                                        ; bf880064
BB4:
	s_buffer_load_dword s1, s[16:19], 0x0                       ; c0220048 00000000
	s_load_dwordx4 s[24:27], s[2:3], 0x40                       ; c00a0601 00000040
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_mul_i32 s7, s6, s1                                        ; 92070106
	v_add_lshl_u32 v3, s7, v1, 2                                ; d1fe0003 020a0207
	buffer_load_dword v4, v3, s[24:27], 0 offen                 ; e0501000 80060403
	s_mov_b32 s7, -1                                            ; be8700c1
	s_mov_b32 s10, 0                                            ; be8a0080
	s_mov_b32 s11, -1                                           ; be8b00c1
	s_mov_b32 s21, -1                                           ; be9500c1
BB5:
	s_cmp_eq_i32 s7, 0                                          ; bf008007
	s_cbranch_scc1 BB12                                         ; bf85001e
BB8:
	s_buffer_load_dword s7, s[16:19], 0x4                       ; c02201c8 00000004
	s_cmp_eq_i32 s11, 0                                         ; bf00800b
	s_sub_i32 s21, s21, src_scc                                 ; 8195fd15
	s_add_u32 s11, s11, -1                                      ; 800bc10b
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_cmp_ge_u32 s10, s7                                        ; bf09070a
	s_cbranch_scc1 BB12                                         ; bf850016
BB11:
	s_load_dwordx4 s[28:31], s[2:3], 0x20                       ; c00a0701 00000020
	s_mul_i32 s7, s6, s7                                        ; 92070706
	s_add_u32 s7, s7, s10                                       ; 80070a07
	s_lshl_b32 s22, s7, 3                                       ; 8e168307
	s_mul_i32 s7, s7, s1                                        ; 92070107
	v_add_lshl_u32 v5, s7, v1, 2                                ; d1fe0005 020a0207
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	buffer_load_dword v5, v5, s[28:31], 0 offen                 ; e0501000 80070505
	s_load_dwordx4 s[28:31], s[2:3], 0x30                       ; c00a0701 00000030
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_buffer_load_dword s7, s[28:31], s22 offset:0x4            ; c02241ce 2c000004
	s_add_u32 s10, s10, 1                                       ; 800a810a
	s_max_u32 s22, s11, s21                                     ; 8496150b
	s_waitcnt vmcnt(0) lgkmcnt(0)                               ; bf8c0070
	v_mac_f32_e32 v4, s7, v5                                    ; 2c080a07
	s_mov_b32 s7, s22                                           ; be870016
	s_branch BB5                                                ; bf82ffe0
BB12:
	s_load_dwordx4 s[28:31], s[2:3], 0x50                       ; c00a0701 00000050
	s_load_dwordx4 s[32:35], s[2:3], 0x60                       ; c00a0801 00000060
	v_lshlrev_b32_e32 v1, 2, v1                                 ; 24020282
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	buffer_load_dword v1, v1, s[28:31], 0 offen                 ; e0501000 80070101
	s_waitcnt vmcnt(1)                                          ; bf8c3f71
	buffer_store_dword v4, v3, s[24:27], 0 offen                ; e0701000 80060403
	v_mul_f32_e32 v5, v4, v4                                    ; 0a0a0904
	ds_write_b32 v2, v5                                         ; d81a0000 00000502
	s_buffer_load_dword s1, s[16:19], 0x4                       ; c0220048 00000004
	s_waitcnt vmcnt(1)                                          ; bf8c3f71
	v_mul_f32_e32 v1, v4, v1                                    ; 0a020304
	buffer_store_dword v1, v3, s[32:35], 0 offen glc            ; e0705000 80080103
	v_and_b32_e32 v1, 0x7f800000, v4                            ; 260208ff 7f800000
	v_cmp_eq_i32_e32 vcc, 0x7f800000, v1                        ; 7d8402ff 7f800000
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_cmp_lt_u32 0, s1                                          ; bf0a0180
	s_cselect_b64 s[10:11], -1, 0                               ; 858a80c1
	s_and_b64 s[10:11], s[10:11], vcc                           ; 868a6a0a
	s_and_saveexec_b64 s[10:11], s[10:11]                       ; be8a200a
	s_cbranch_execz BB23                                        ; bf880018
BB13:
	buffer_load_dword v1, off, s[12:15], 0 glc                  ; e0504000 80030180
	s_waitcnt vmcnt(0)                                          ; bf8c3f70
	v_readfirstlane_b32 s1, v1                                  ; 7e020501
	s_cmp_ge_u32 s1, s4                                         ; bf090401
	s_cbranch_scc0 BB15                                         ; bf840007
BB14:
	buffer_load_dword v1, off, s[12:15], 0 offset:28 glc        ; e050401c 80030180
	s_waitcnt vmcnt(0)                                          ; bf8c3f70
	v_readfirstlane_b32 s1, v1                                  ; 7e020501
	s_cmp_eq_i32 s1, -1                                         ; bf00c101
	s_cselect_b64 s[22:23], -1, 0                               ; 859680c1
	s_branch BB16                                               ; bf820001
BB15:
	s_mov_b64 s[22:23], 0                                       ; be960180
BB16:
	s_and_b64 s[22:23], s[22:23], exec                          ; 86967e16
	s_cbranch_scc0 BB23                                         ; bf840008
BB17:
	s_lshl2_add_u32 s1, s4, 3                                   ; 97818304
	s_ff1_i32_b64 s4, exec                                      ; be84117e
	s_lshl_b64 s[22:23], 1, s4                                  ; 8e960481
	s_and_saveexec_b64 s[22:23], s[22:23]                       ; be962016
	s_cbranch_execz BB23                                        ; bf880003
BB18:
	v_mov_b32_e32 v1, s1                                        ; 7e020201
	buffer_atomic_umin v1, off, s[12:15], 0 offset:28           ; e114001c 80030180
BB23:
BB25:
BB30:
BB35:
	s_mov_b64 exec, s[8:9]                                      ; befe0108
	v_cmp_eq_i32_e32 vcc, 0, v0                                 ; 7d840080
	s_cmp_lg_i32 s0, 0                                          ; bf018000
	s_cselect_b64 s[0:1], 0, vcc                                ; 85806a80
	s_and_saveexec_b64 s[0:1], s[0:1]                           ; be802000
	s_cbranch_execz BB49                                        ; bf880020
BB36:
	v_mov_b32_e32 v0, 0                                         ; 7e000280
	s_mov_b32 s4, -1                                            ; be8400c1
	s_mov_b32 s7, 0                                             ; be870080
	s_mov_b64 s[8:9], -1                                        ; be8801c1
BB37:
	s_cmp_eq_i32 s4, 0                                          ; bf008004
	s_cbranch_scc1 BB44                                         ; bf85000f
BB40:
	s_cmp_eq_i32 s8, 0                                          ; bf008008
	s_sub_i32 s9, s9, src_scc                                   ; 8189fd09
	s_add_u32 s8, s8, -1                                        ; 8008c108
	s_cmp_ge_u32 s7, 64                                         ; bf09c007
	s_cbranch_scc1 BB44                                         ; bf85000a
BB43:
	s_min_u32 s4, s7, 63                                        ; 8384bf07
	s_lshl_b32 s4, s4, 2                                        ; 8e048204
	v_mov_b32_e32 v1, s4                                        ; 7e020204
	ds_read_b32 v1, v1                                          ; d86c0000 01000001
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	v_add_f32_e32 v0, v1, v0                                    ; 02000101
	s_add_u32 s7, s7, 1                                         ; 80078107
	s_max_u32 s4, s8, s9                                        ; 84840908
	s_branch BB37                                               ; bf82ffef
BB44:
	s_buffer_load_dword s4, s[16:19], 0xc                       ; c0220108 0000000c
	s_mul_i32 s6, s6, s20                                       ; 92061406
	s_load_dwordx4 s[8:11], s[2:3], 0x60                        ; c00a0201 00000060
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	s_add_u32 s6, s4, s6                                        ; 80060604
	s_add_u32 s2, s6, s5                                        ; 80020506
	s_lshl_b32 s2, s2, 2                                        ; 8e028202
	buffer_store_dword v0, off, s[8:11], s2 glc                 ; e0704000 02020080
BB49:
	s_endpgm                                                    ; bf810000
