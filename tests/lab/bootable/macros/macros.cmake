# Building with CMake out of the source tree, after its own documentation (cmake(1), ctest(1)).
%__cmake /usr/bin/cmake
%__ctest /usr/bin/ctest
%__cmake_builddir %{_vpath_builddir}
%_vpath_builddir redhat-linux-build
%cmake() \
CFLAGS="%{optflags}" CXXFLAGS="%{optflags}" LDFLAGS="%{?build_ldflags}" \\\
%{__cmake} -S . -B %{__cmake_builddir} -DCMAKE_BUILD_TYPE=RelWithDebInfo \\\
    -DCMAKE_INSTALL_PREFIX=%{_prefix} -DCMAKE_INSTALL_LIBDIR=%{_lib} -DBUILD_SHARED_LIBS=ON %{?*}
%cmake_build() %{__cmake} --build %{__cmake_builddir} %{?_smp_mflags} --verbose %{?*}
%cmake_install() DESTDIR=%{buildroot} %{__cmake} --install %{__cmake_builddir} %{?*}
%ctest() %{__ctest} --test-dir %{__cmake_builddir} --output-on-failure %{?*}
