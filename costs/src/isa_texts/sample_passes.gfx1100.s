BB67:
	s_cmp_eq_i32 s8, 0
	s_cbranch_scc1 BB117
BB70:
	s_cmp_eq_i32 s5, 0
	s_sub_i32 s6, s6, src_scc
	s_add_u32 s5, s5, -1
	s_cmp_ge_u32 s4, 32
	s_cbranch_scc1 BB117
BB73:
	s_sub_i32 s7, 24, s4
	v_lshlrev_b32_e32 v6, 2, v2
	v_mov_b32_e32 v7, 0
	ds_store_b32 v6, v7 offset:4096
	s_waitcnt lgkmcnt(0)
	s_barrier
	ds_load_b32 v6, v7 offset:5128
	s_waitcnt lgkmcnt(0)
	v_readfirstlane_b32 s8, v6
	v_mov_b32_e32 v8, v0
	s_mov_b64 s[14:15], exec
BB74:
	v_max_u32_e32 v9, v1, v3
	s_mov_b64 s[16:17], exec
	v_cmpx_eq_i32_e32 0, v9
BB75:
	s_and_not1_b64 s[16:17], s[16:17], exec
	s_cbranch_scc0 BB97
BB82:
	s_mov_b64 exec, s[16:17]
	v_cmp_eq_i32_e64 s[16:17], 0, v1
	v_subrev_co_ci_u32_e64 v3, s[16:17], 0, v3, s[16:17]
	v_add_nc_u32_e32 v1, -1, v1
	s_mov_b64 s[16:17], exec
	v_cmpx_le_u32_e32 s1, v8
BB83:
	s_waitcnt_depctr 0xfffe
	s_and_not1_b64 s[16:17], s[16:17], exec
	s_cbranch_scc0 BB97
BB90:
	s_waitcnt_depctr 0xfffe
	s_mov_b64 exec, s[16:17]
	s_load_b128 s[16:19], s[2:3], 0x20
	v_add_lshl_u32 v9, s9, v8, 2
	s_waitcnt lgkmcnt(0)
	buffer_load_b32 v9, v9, s[16:19], 0 offen
	s_sub_i32 s13, 32, s4
	s_cmp_eq_i32 s4, 0
	s_cselect_b64 s[16:17], -1, 0
	s_waitcnt vmcnt(0)
	v_cmp_gt_i32_e64 s[18:19], 0, v9
	v_cndmask_b32_e64 v10, 0x80000000, -1, s[18:19]
	v_xor_b32_e32 v9, v9, v10
	v_lshrrev_b32_e32 v10, s13, v9
	v_cmp_eq_i32_e64 s[18:19], v6, v10
	s_or_b64 s[16:17], s[16:17], s[18:19]
	s_and_saveexec_b64 s[16:17], s[16:17]
	s_cbranch_execz BB96
BB91:
	v_lshrrev_b32_e32 v9, s7, v9
	v_bfe_u32 v9, v9, 0, 8
	v_min_u32_e32 v9, s12, v9
	v_lshlrev_b32_e32 v9, 2, v9
	v_mov_b32_e32 v10, 1
	ds_add_u32 v9, v10 offset:4096
BB96:
	s_mov_b64 exec, s[16:17]
	v_add_nc_u32_e32 v8, s11, v8
	s_branch BB74
BB97:
	s_mov_b64 exec, s[14:15]
	s_waitcnt lgkmcnt(0)
	s_barrier
	s_and_saveexec_b64 s[14:15], vcc
	s_cbranch_execz BB116
BB98:
	s_movk_i32 s7, 0xff
	s_mov_b64 s[16:17], exec
BB99:
	v_max_u32_e32 v6, v4, v5
	s_mov_b64 s[18:19], exec
	v_cmpx_eq_i32_e32 0, v6
BB100:
	v_mov_b32_e32 v6, s7
	s_and_not1_b64 s[18:19], s[18:19], exec
	s_cbranch_scc0 BB111
BB107:
	s_mov_b64 exec, s[18:19]
	v_cmp_eq_i32_e64 s[18:19], 0, v4
	v_subrev_co_ci_u32_e64 v5, s[18:19], 0, v5, s[18:19]
	v_add_nc_u32_e32 v4, -1, v4
	s_min_u32 s13, s7, s12
	s_lshl_b32 s13, s13, 2
	v_mov_b32_e32 v6, s13
	ds_load_b32 v6, v6 offset:4096
	s_waitcnt lgkmcnt(0)
	v_readfirstlane_b32 s13, v6
	ds_load_b32 v6, v7 offset:5132
	s_waitcnt lgkmcnt(0)
	v_readfirstlane_b32 s18, v6
	s_cmp_eq_i32 s7, 0
	s_mov_b32 s19, src_scc
	s_cmp_ge_u32 s13, s18
	s_or_b32 s19, src_scc, s19
	s_cbranch_scc0 BB110
BB108:
	v_mov_b32_e32 v6, s7
	s_branch BB111
BB110:
	s_sub_i32 s13, s18, s13
	v_mov_b32_e32 v6, s13
	ds_store_b32 v7, v6 offset:5132
	s_add_u32 s7, s7, -1
	s_branch BB99
BB111:
	s_mov_b64 exec, s[16:17]
	v_lshl_or_b32 v6, s8, 8, v6
	ds_store_b32 v7, v6 offset:5128
BB116:
	s_mov_b64 exec, s[14:15]
	s_waitcnt lgkmcnt(0)
	s_barrier
	s_add_u32 s4, s4, 8
	s_max_u32 s8, s5, s6
	s_branch BB67
BB117:
